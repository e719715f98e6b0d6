//! One field of a state, and what its attributes say.

use proc_macro2::{Span, TokenStream as Tokens};
use quote::{format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, ExprLit, Field, Ident, Lit, LitStr, Meta, Path, Token, Type};

/// The reducers that have a name.
const REDUCERS: [&str; 4] = ["append", "max", "min", "merge"];

/// How a field is written, merged, kept and stored.
pub(crate) struct StateField {
    pub(crate) id: Ident,
    pub(crate) ty: Type,
    /// Function that merges several writes; `None` when there is one value a step.
    pub(crate) reducer: Option<Tokens>,
    /// Its name, when it is one of those that have a name.
    pub(crate) built_in: Option<&'static str>,
    /// Several writes of one value are one.
    pub(crate) is_any: bool,
    /// Goes back to its default with the next step that does not write it.
    pub(crate) is_ephemeral: bool,
    /// Is never stored.
    pub(crate) is_untracked: bool,
    /// Names under which older code has stored it.
    aliases: Vec<LitStr>,
}

impl StateField {
    pub(crate) fn parse(field: &Field) -> Result<Self, Error> {
        let id = field
            .ident
            .clone()
            .ok_or_else(|| Error::new(Span::call_site(), "a state's fields have names"))?;
        let mut parsed = Self {
            id,
            ty: field.ty.clone(),
            reducer: None,
            built_in: None,
            is_any: false,
            is_ephemeral: false,
            is_untracked: false,
            aliases: aliases(&field.attrs),
        };
        for attribute in &field.attrs {
            if attribute.path().is_ident("state") {
                attribute.parse_nested_meta(|meta| parsed.take(&meta))?;
            }
        }
        parsed.check_stored(field)?;
        Ok(parsed)
    }

    /// The pattern of the names under which it is stored.
    pub(crate) fn stored(&self, name: &str) -> Tokens {
        let aliases = &self.aliases;
        quote!(#name #(| #aliases)*)
    }

    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        let path = &meta.path;
        let flag = if path.is_ident("any") {
            Some(&mut self.is_any)
        } else if path.is_ident("ephemeral") {
            Some(&mut self.is_ephemeral)
        } else if path.is_ident("untracked") {
            Some(&mut self.is_untracked)
        } else {
            None
        };
        if let Some(flag) = flag {
            if std::mem::replace(flag, true) {
                return Err(meta.error("this is said twice"));
            }
            return self.check_any(meta);
        }
        let built_in = REDUCERS.iter().find(|name| path.is_ident(name));
        let reducer = if let Some(name) = built_in {
            self.built_in = Some(name);
            let name = format_ident!("{name}");
            quote!(::velo_engine::reducer::#name)
        } else if path.is_ident("reduce") {
            let path: Path = meta.value()?.parse()?;
            quote!(#path)
        } else {
            return Err(meta.error(
                "unknown: use append, max, min, merge, reduce = path, any, ephemeral or untracked",
            ));
        };
        if self.reducer.replace(reducer).is_some() {
            return Err(meta.error("a field has one reducer"));
        }
        self.check_any(meta)
    }

    fn check_any(&self, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        if self.is_any && self.reducer.is_some() {
            return Err(meta.error("`any` keeps one of several equal values: it has no reducer"));
        }
        Ok(())
    }

    /// Whole states are stored by serde, so it must leave out what is untracked, and nothing else.
    fn check_stored(&self, field: &Field) -> Result<(), Error> {
        let skips = |word: &str| field.attrs.iter().any(|attribute| says(attribute, word));
        if self.is_untracked && !skips("skip") {
            return Err(Error::new_spanned(
                field,
                "an untracked field is never stored: add #[serde(skip)]",
            ));
        }
        let is_lost = ["skip", "skip_serializing", "skip_deserializing"]
            .iter()
            .any(|word| skips(word));
        if !self.is_untracked && is_lost {
            return Err(Error::new_spanned(
                field,
                "a field that serde skips is lost when the run changes hands: add #[state(untracked)]",
            ));
        }
        Ok(())
    }
}

/// The names in `#[serde(alias = "…")]`: whole states are read by serde, and updates as it does.
fn aliases(attributes: &[Attribute]) -> Vec<LitStr> {
    let lists = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"));
    let lists = lists.filter_map(|attribute| {
        attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .ok()
    });
    let aliases = lists.flatten().filter_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident("alias") => match pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(name),
                ..
            }) => Some(name),
            _ => None,
        },
        _ => None,
    });
    aliases.collect()
}

/// Whether this is a `#[serde(…)]` with this word in it. What is no such list is serde's to refuse.
fn says(attribute: &Attribute, word: &str) -> bool {
    attribute.path().is_ident("serde")
        && attribute
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|list| list.iter().any(|meta| meta.path().is_ident(word)))
}
