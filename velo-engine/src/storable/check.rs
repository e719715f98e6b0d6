//! Walks through a value as serde shows it, and writes nothing.

use std::fmt;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Value;

use super::{BadValue, Unstored};

/// How serde_json passes JSON that is written already; a test here notices when that changes.
const RAW: &str = "$serde_json::private::RawValue";

/// Finds what cannot be stored.
pub(super) fn check<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<(), BadValue> {
    match value.serialize(Look) {
        Err(Stop::Bad { holds, path }) => {
            let path = path.into_iter().rev();
            Err(BadValue {
                at: path.fold(name.to_owned(), |at, part| format!("{at}{part}")),
                holds,
            })
        }
        // Values that have a JSON form, and those that have none are refused by who writes it.
        Ok(()) | Err(Stop::Other) => Ok(()),
    }
}

/// Why the walk ended before the end.
#[derive(Debug)]
enum Stop {
    Bad {
        holds: Unstored,
        /// From the inside out: made only when something was found.
        path: Vec<String>,
    },
    Other,
}

impl Stop {
    fn of(holds: Unstored) -> Self {
        let path = Vec::new();
        Self::Bad { holds, path }
    }

    fn within(mut self, part: impl FnOnce() -> String) -> Self {
        if let Self::Bad { path, .. } = &mut self {
            path.push(part());
        }
        self
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("found what cannot be stored")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Other
    }
}

fn key(name: impl fmt::Display) -> String {
    format!(".{name}")
}

fn text(text: &str) -> Result<(), Stop> {
    if text.contains('\0') {
        return Err(Stop::of(Unstored::Nul));
    }
    Ok(())
}

fn number(number: f64) -> Result<(), Stop> {
    if number.is_finite() {
        Ok(())
    } else {
        Err(Stop::of(Unstored::NotFinite))
    }
}

/// Looks at one value.
struct Look;

/// Looks at the parts of one.
struct Parts {
    next: usize,
    /// The variant that they are in.
    variant: Option<&'static str>,
    is_raw: bool,
}

impl Parts {
    fn of(variant: Option<&'static str>) -> Result<Self, Stop> {
        Ok(Self {
            next: 0,
            variant,
            is_raw: false,
        })
    }

    fn part<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        name: impl FnOnce() -> String,
    ) -> Result<(), Stop> {
        self.next += 1;
        let looked = value.serialize(Look);
        looked.map_err(|stop| {
            let stop = stop.within(name);
            match self.variant {
                Some(variant) => stop.within(|| key(variant)),
                None => stop,
            }
        })
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let index = self.next;
        self.part(value, || format!("[{index}]"))
    }
}

macro_rules! fine {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<(), Stop> { Ok(()) })*
    };
}

impl Serializer for Look {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    fine!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    );

    fn serialize_f32(self, value: f32) -> Result<(), Stop> {
        number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Stop> {
        number(value)
    }

    fn serialize_char(self, value: char) -> Result<(), Stop> {
        text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Stop> {
        text(value)
    }

    fn serialize_none(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value
            .serialize(self)
            .map_err(|stop| stop.within(|| key(variant)))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Stop> {
        Parts::of(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, Stop> {
        Parts::of(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts, Stop> {
        Parts::of(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Stop> {
        Parts::of(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Stop> {
        Parts::of(None)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts, Stop> {
        let parts = Parts::of(None)?;
        Ok(Parts {
            is_raw: name == RAW,
            ..parts
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Stop> {
        Parts::of(Some(variant))
    }
}

macro_rules! items {
    ($($trait:ident: $method:ident),* $(,)?) => {
        $(impl $trait for Parts {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.item(value)
            }

            fn end(self) -> Result<(), Stop> {
                Ok(())
            }
        })*
    };
}

items!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
);

impl SerializeMap for Parts {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Stop> {
        self.part(name, || ".(a key)".to_owned())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.part(value, || ".(a value)".to_owned())
    }

    fn serialize_entry<K, V>(&mut self, name: &K, value: &V) -> Result<(), Stop>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        self.serialize_key(name)?;
        self.part(value, || match serde_json::to_value(name) {
            Ok(Value::String(name)) => key(name),
            Ok(name) => key(name),
            Err(_) => ".(a value)".to_owned(),
        })
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}

impl SerializeStruct for Parts {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        if self.is_raw {
            // The text of some JSON: what it says counts, not how it is written.
            let written = serde_json::to_value(value).ok();
            let written = written.as_ref().and_then(Value::as_str);
            return match written.and_then(|json| serde_json::from_str::<Value>(json).ok()) {
                Some(read) => read.serialize(Look),
                None => Ok(()),
            };
        }
        self.part(value, || key(name))
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}

impl SerializeStructVariant for Parts {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.part(value, || key(name))
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}
