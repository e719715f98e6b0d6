//! The `State` derive of `velo-engine`, which re-exports it and documents its attributes.

mod field;
mod rule;
mod schema;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, Ident, parse_macro_input};

use field::StateField;
use schema::Schema;

/// Makes a struct with named fields usable as a graph's state.
///
/// Each field has one writer a step, unless an attribute names how several writes are merged:
///
/// | attribute | several writes of one step |
/// |---|---|
/// | none | are an error |
/// | `#[state(append)]`, `#[state(max)]`, `#[state(min)]` | are merged in order |
/// | `#[state(merge)]`, for maps | are merged by key |
/// | `#[state(reduce = path)]`, for a `fn(&mut T, T)` | are merged by that function |
/// | `#[state(any)]`, for a type with `PartialEq` | must all be of one value, which is kept |
///
/// Beside each of them may stand:
///
/// - `ephemeral`: the field lives for one step. A step that does not write it sets it back to its
///   `Default`, and a step that does starts its reducer from there.
/// - `untracked`, with `#[serde(skip)]`: the field is never stored. It has its `Default` again once
///   the run has changed hands, at any step: for what can be made anew, such as a cache.
///
/// # Versions
///
/// What is stored is read back by whatever code goes on with the run. A new field needs
/// `#[serde(default)]`. A field that is renamed keeps what was written to it when it has
/// `#[serde(alias = "old_name")]`. A field that is dropped needs `#[state(removed = "name")]` on the
/// struct, so that what was written to it is passed over. For all else the struct gets the next version,
/// and says how the one before becomes it:
///
/// ```ignore
/// #[derive(State, Debug, Clone, Serialize, Deserialize)]
/// #[state(version = 2, from = OrderV1)]
/// struct Order { cents: u64 }
///
/// #[derive(State, Debug, Clone, Serialize, Deserialize)]
/// struct OrderV1 { euros: u32 }
///
/// impl From<OrderV1> for Order {
///     fn from(old: OrderV1) -> Self { Self { cents: u64::from(old.euros) * 100 } }
/// }
/// ```
///
/// `OrderV1` may itself come from an older one, and so on: what each version has written is applied by
/// the reducers of that version. `#[state(version = 3, oldest)]` says that no older version is read any
/// more; a worker does not start while a run of one is left.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "a state is a struct with named fields",
        ));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "a state is a struct with named fields",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a state has no type parameters",
        ));
    }
    if named.named.is_empty() {
        return Err(Error::new_spanned(
            &input.ident,
            "a state has at least one field",
        ));
    }
    let (name, vis) = (&input.ident, &input.vis);
    let schema = Schema::parse(&input.attrs)?;
    let (versions, removed) = (schema.items(), &schema.removed);
    let update = format_ident!("{name}Update");
    let write = format_ident!("__{name}Write");
    let mut fields = Vec::new();
    for field in &named.named {
        fields.push(StateField::parse(field)?);
    }
    let ids: Vec<_> = fields.iter().map(|field| &field.id).collect();
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let variants: Vec<_> = (0..fields.len())
        .map(|index| format_ident!("F{index}"))
        .collect();
    // Not the fields' own names: one may be called like anything that stands around it.
    let writes: Vec<_> = (0..fields.len())
        .map(|index| format_ident!("__f{index}"))
        .collect();
    let names: Vec<_> = ids
        .iter()
        .map(|id| id.to_string().trim_start_matches("r#").to_owned())
        .collect();
    let stored: Vec<_> = fields
        .iter()
        .zip(&names)
        .map(|(field, name)| field.stored(name))
        .collect();
    let merges: Vec<_> = fields.iter().map(|field| field.reducer.is_some()).collect();
    let encodes = fields.iter().zip(&variants).zip(&names);
    let encodes: Vec<_> = encodes
        .map(|((field, variant), name)| encode(field, &write, variant, name))
        .collect();
    let decodes = fields.iter().zip(&variants);
    let decodes: Vec<_> = decodes
        .map(|(field, variant)| decode(field, &write, variant))
        .collect();
    let checks = fields.iter().zip(&writes);
    let checks: Vec<_> = checks.map(|(field, writes)| check(field, writes)).collect();
    let folds = fields.iter().zip(&writes);
    let folds: Vec<_> = folds.map(|(field, writes)| fold(field, writes)).collect();
    let is_plain = rule::is_stored_plainly(&input.attrs);
    let rules = fields.iter().zip(&named.named);
    let rules: Vec<_> = rules
        .map(|(field, declared)| rule::rule(field, &declared.attrs, is_plain))
        .collect();
    let setter_docs: Vec<_> = names
        .iter()
        .map(|name| format!("Writes the field `{name}`."))
        .collect();
    let update_doc =
        format!("A partial update of [`{name}`]: the fields that a node writes, in order.");

    Ok(quote! {
        #[doc(hidden)]
        #[derive(Clone)]
        enum #write { #(#variants(::velo_engine::Write<#types>)),* }

        #[doc = #update_doc]
        #[derive(Clone, Default)]
        #vis struct #update { writes: ::std::vec::Vec<#write> }

        impl ::std::fmt::Debug for #update {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let fields = self.writes.iter().map(|write| match write { #(#write::#variants(_) => #names),* });
                f.debug_list().entries(fields).finish()
            }
        }

        impl #update {
            #(
                #[doc = #setter_docs]
                #[must_use]
                #vis fn #ids(mut self, value: impl ::std::convert::Into<::velo_engine::Write<#types>>) -> Self {
                    self.writes.push(#write::#variants(value.into()));
                    self
                }
            )*
        }

        impl #name {
            /// An update that writes nothing yet.
            #[must_use]
            #vis fn update() -> #update { #update::default() }
        }

        impl ::velo_engine::Update for #update {
            type State = #name;

            fn encode(&self) -> ::std::result::Result<::std::vec::Vec<u8>, ::velo_engine::CodecError> {
                let mut writes = ::velo_engine::Writes::default();
                for write in &self.writes {
                    match write { #(#encodes),* }
                }
                ::std::result::Result::Ok(writes.into_bytes())
            }

            fn decode(bytes: &[u8]) -> ::std::result::Result<Self, ::velo_engine::CodecError> {
                let mut update = Self::default();
                for stored in ::velo_engine::StoredWrite::list(bytes)? {
                    match stored.field() {
                        #(#stored => #decodes,)*
                        #(#removed => (),)*
                        _ => return ::std::result::Result::Err(stored.unknown_field(&[#(#names),*])),
                    }
                }
                ::std::result::Result::Ok(update)
            }
        }

        impl ::velo_engine::State for #name {
            type Update = #update;
            const FIELDS: &'static [&'static str] = &[#(#names),*];
            #versions

            fn rules() -> ::std::vec::Vec<::velo_engine::FieldRule> {
                ::std::vec![#(#rules),*]
            }

            fn apply(
                &mut self,
                updates: ::std::vec::Vec<(&str, #update)>,
            ) -> ::std::result::Result<(), ::velo_engine::ConcurrentUpdate> {
                #(let mut #writes = ::velo_engine::FieldWrites::<#types>::new(#names, #merges);)*
                for (node, update) in updates {
                    for write in update.writes {
                        match write { #(#write::#variants(value) => #writes.push(node, value)),* }
                    }
                }
                #(#checks)*
                #(#folds)*
                ::std::result::Result::Ok(())
            }
        }
    })
}

fn encode(field: &StateField, write: &Ident, variant: &Ident, name: &str) -> Tokens {
    if field.is_untracked {
        quote!(#write::#variant(_) => ())
    } else {
        quote!(#write::#variant(value) => writes.push(#name, value)?)
    }
}

/// An untracked field may have been stored before it was untracked.
fn decode(field: &StateField, write: &Ident, variant: &Ident) -> Tokens {
    if field.is_untracked {
        quote!(())
    } else {
        quote!(update.writes.push(#write::#variant(stored.value()?)))
    }
}

fn check(field: &StateField, writes: &Ident) -> Tokens {
    if field.is_any {
        quote_spanned!(field.ty.span()=> #writes.check_equal()?;)
    } else {
        quote!(#writes.check()?;)
    }
}

fn fold(field: &StateField, writes: &Ident) -> Tokens {
    let (id, ty) = (&field.id, &field.ty);
    let forget = field.is_ephemeral.then(
        || quote_spanned!(ty.span()=> self.#id = <#ty as ::std::default::Default>::default();),
    );
    let reducer = match &field.reducer {
        Some(reducer) => reducer.clone(),
        None => quote!(::velo_engine::reducer::last),
    };
    quote!(#forget #writes.fold(&mut self.#id, #reducer);)
}
