//! What can be told of a field without its code.

use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Meta, Token, Type};

use crate::field::StateField;

/// Words of serde that change neither the name nor the form of what is stored.
const PLAIN: [&str; 6] = [
    "default",
    "alias",
    "skip",
    "skip_serializing_if",
    "deny_unknown_fields",
    "bound",
];
/// Types whose order is that of their JSON.
const ORDERED: [&str; 13] = [
    "i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize", "f32", "f64", "String",
];

/// The field's rule; `is_plain` says whether the struct is stored as it is written.
pub(crate) fn rule(field: &StateField, attributes: &[Attribute], is_plain: bool) -> Tokens {
    let (name, ty) = (field.id.to_string(), &field.ty);
    let name = name.trim_start_matches("r#");
    let merge = format_ident!(
        "{}",
        merge(field, is_plain && is_stored_plainly(attributes))
    );
    let rule = quote!(::velo_engine::FieldRule::new(#name, ::velo_engine::MergeRule::#merge));
    if field.is_ephemeral && !field.is_untracked {
        quote_spanned!(ty.span()=> #rule.resets_to(&<#ty as ::std::default::Default>::default()))
    } else {
        rule
    }
}

fn merge(field: &StateField, is_plain: bool) -> &'static str {
    let is_one_of = |names: &[&str]| match &field.ty {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|last| names.iter().any(|name| last.ident == name)),
        _ => false,
    };
    match field.built_in {
        _ if field.is_untracked => "Untracked",
        _ if !is_plain => "Opaque",
        None if field.reducer.is_none() => "Replace",
        Some("append") if is_one_of(&["Vec"]) => "Append",
        Some("merge") if is_one_of(&["BTreeMap", "HashMap"]) => "Merge",
        Some("max") if is_one_of(&ORDERED) => "Max",
        Some("min") if is_one_of(&ORDERED) => "Min",
        _ => "Opaque",
    }
}

/// Whether serde stores it under its own name, in the form of its type.
pub(crate) fn is_stored_plainly(attributes: &[Attribute]) -> bool {
    let mut said = attributes.iter().filter(|it| it.path().is_ident("serde"));
    said.all(|attribute| {
        let list = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        list.is_ok_and(|list| list.iter().all(is_plain))
    })
}

fn is_plain(meta: &Meta) -> bool {
    // A default of its own is code.
    let is_code = meta.path().is_ident("default") && !matches!(meta, Meta::Path(_));
    !is_code && PLAIN.iter().any(|word| meta.path().is_ident(word))
}
