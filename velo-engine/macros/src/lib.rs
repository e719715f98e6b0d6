//! The `State` derive of `velo-engine`, which re-exports it and documents its attributes.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Path, parse_macro_input};

/// Makes a struct with named fields usable as a graph's state.
///
/// Each field has one writer a step, unless an attribute names how several writes are merged:
/// `#[state(append)]`, `#[state(max)]`, `#[state(min)]`, `#[state(merge)]` for maps, and
/// `#[state(reduce = path)]` for a function `fn(&mut T, T)`.
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
    let names: Vec<_> = ids
        .iter()
        .map(|id| id.to_string().trim_start_matches("r#").to_owned())
        .collect();
    let reducers: Vec<_> = fields.iter().map(|field| &field.reducer).collect();
    let merges: Vec<_> = fields.iter().map(|field| field.merges).collect();
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
                    match write { #(#write::#variants(value) => writes.push(#names, value)?),* }
                }
                ::std::result::Result::Ok(writes.into_bytes())
            }

            fn decode(bytes: &[u8]) -> ::std::result::Result<Self, ::velo_engine::CodecError> {
                let mut update = Self::default();
                for stored in ::velo_engine::StoredWrite::list(bytes)? {
                    match stored.field() {
                        #(#names => update.writes.push(#write::#variants(stored.value()?)),)*
                        _ => return ::std::result::Result::Err(stored.unknown_field()),
                    }
                }
                ::std::result::Result::Ok(update)
            }
        }

        impl ::velo_engine::State for #name {
            type Update = #update;
            const FIELDS: &'static [&'static str] = &[#(#names),*];

            fn apply(
                &mut self,
                updates: ::std::vec::Vec<(&str, #update)>,
            ) -> ::std::result::Result<(), ::velo_engine::ConcurrentUpdate> {
                #(let mut #ids = ::velo_engine::FieldWrites::new(#names, #merges);)*
                for (node, update) in updates {
                    for write in update.writes {
                        match write { #(#write::#variants(value) => #ids.push(node, value)),* }
                    }
                }
                #(#ids.check()?;)*
                #(#ids.fold(&mut self.#ids, #reducers);)*
                ::std::result::Result::Ok(())
            }
        }
    })
}

struct StateField {
    id: Ident,
    ty: syn::Type,
    reducer: Tokens,
    merges: bool,
}

impl StateField {
    fn parse(field: &Field) -> Result<Self, Error> {
        let id = field
            .ident
            .clone()
            .ok_or_else(|| Error::new(Span::call_site(), "a state's fields have names"))?;
        let mut reducer = None;
        for attribute in field
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("state"))
        {
            attribute.parse_nested_meta(|meta| {
                if reducer.is_some() {
                    return Err(meta.error("a field has one reducer"));
                }
                let built_in = ["append", "max", "min", "merge"]
                    .iter()
                    .find(|name| meta.path.is_ident(name));
                if let Some(name) = built_in {
                    let name = format_ident!("{name}");
                    reducer = Some(quote!(::velo_engine::reducer::#name));
                    return Ok(());
                }
                if meta.path.is_ident("reduce") {
                    let path: Path = meta.value()?.parse()?;
                    reducer = Some(quote!(#path));
                    return Ok(());
                }
                Err(meta.error("unknown reducer: use append, max, min, merge or reduce = path"))
            })?;
        }
        let merges = reducer.is_some();
        let reducer = reducer.unwrap_or_else(|| quote!(::velo_engine::reducer::last));
        Ok(Self {
            id,
            ty: field.ty.clone(),
            reducer,
            merges,
        })
    }
}
