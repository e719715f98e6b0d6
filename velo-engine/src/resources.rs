//! What a worker gives to its nodes: one value a type.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Values by their types, such as a client or a configuration.
///
/// ```
/// use velo_engine::Resources;
///
/// let mut resources = Resources::default();
/// resources.insert(String::from("eu-west"));
/// assert_eq!(*resources.get::<String>().unwrap(), "eu-west");
/// assert!(resources.get::<u32>().is_none());
/// ```
#[derive(Default)]
pub struct Resources {
    values: HashMap<TypeId, (&'static str, Arc<dyn Any + Send + Sync>)>,
}

impl Resources {
    /// Adds a value, in place of an earlier one of its type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let entry: (_, Arc<dyn Any + Send + Sync>) = (type_name::<T>(), Arc::new(value));
        self.values.insert(TypeId::of::<T>(), entry);
    }

    /// The value of type `T`.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let (_, value) = self.values.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.values.values().map(|(name, _)| name))
            .finish()
    }
}
