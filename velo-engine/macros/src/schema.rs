//! What a state says of its stored form: its version, what it came from, fields that are gone.

use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, LitInt, LitStr, Type};

/// The `#[state(…)]` of the struct itself.
#[derive(Default)]
pub(crate) struct Schema {
    version: Option<(u32, Span)>,
    from: Option<Type>,
    is_oldest: bool,
    pub(crate) removed: Vec<LitStr>,
}

impl Schema {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut schema = Self::default();
        for attribute in attributes {
            if attribute.path().is_ident("state") {
                attribute.parse_nested_meta(|meta| schema.take(&meta))?;
            }
        }
        schema.check()?;
        Ok(schema)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        let path = &meta.path;
        if path.is_ident("version") {
            let number: LitInt = meta.value()?.parse()?;
            let version = number.base10_parse()?;
            if version == 0 {
                return Err(meta.error("versions count from one"));
            }
            if self.version.replace((version, number.span())).is_some() {
                return Err(meta.error("a state has one version"));
            }
        } else if path.is_ident("from") {
            if self.from.replace(meta.value()?.parse()?).is_some() {
                return Err(meta.error("a state comes from one older version"));
            }
        } else if path.is_ident("oldest") {
            self.is_oldest = true;
        } else if path.is_ident("removed") {
            self.removed.push(meta.value()?.parse()?);
        } else {
            return Err(meta.error(
                "unknown: use version = number, from = Type, oldest or removed = \"field\"",
            ));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        let unsaid = || (1, Span::call_site());
        let (version, span) = self.version.unwrap_or_else(unsaid);
        match (&self.from, self.is_oldest) {
            (Some(from), true) => Err(Error::new_spanned(
                from,
                "a state that comes from an older one is not the oldest",
            )),
            (Some(from), false) if version == 1 => Err(Error::new_spanned(
                from,
                "nothing is older than version 1: say version = 2, or the number after that of this type",
            )),
            (None, false) if version > 1 => Err(Error::new(
                span,
                "runs of older versions could not be read: say from = the type of the version before, \
                 and implement From for it; or `oldest`, once no run of an older version is left",
            )),
            _ => Ok(()),
        }
    }

    /// The items of `State` that read older versions.
    pub(crate) fn items(&self) -> Tokens {
        let version = self.version.map_or(1, |(version, _)| version);
        match &self.from {
            None => quote! {
                const VERSION: u32 = #version;
                const OLDEST: u32 = #version;
            },
            Some(from) => quote! {
                const VERSION: u32 = {
                    ::std::assert!(
                        <#from as ::velo_engine::State>::VERSION + 1 == #version,
                        "a state comes from the version that is one less than its own",
                    );
                    #version
                };
                const OLDEST: u32 = <#from as ::velo_engine::State>::OLDEST;

                fn restore(
                    written: &mut ::velo_engine::Written<'_>,
                ) -> ::std::result::Result<Self, ::velo_engine::ReplayError> {
                    written.read_from(<Self as ::std::convert::From<#from>>::from)
                }
            },
        }
    }
}
