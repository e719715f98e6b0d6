//! Node names as a graph's parts mention them.

use crate::node::NodeKey;

// Nobody else can name what is in here, so `Sources` stays with the types below.
mod sealed {
    /// A node's name, and the payload type that its key says it takes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Named {
        pub(crate) name: &'static str,
        pub(crate) payload: &'static str,
    }

    pub trait List {
        fn into_list(self) -> Vec<Named>;
    }
}
pub(super) use sealed::Named;

impl<S, I> From<NodeKey<S, I>> for Named {
    fn from(key: NodeKey<S, I>) -> Self {
        Self {
            name: key.name(),
            payload: std::any::type_name::<I>(),
        }
    }
}

/// The nodes that a join waits for: an array of keys, or a tuple of up to eight when they take
/// different payloads, such as `(REVIEW, WRITE)`.
pub trait Sources<S>: sealed::List {}

impl<S, I, const N: usize> sealed::List for [NodeKey<S, I>; N] {
    fn into_list(self) -> Vec<Named> {
        self.into_iter().map(Named::from).collect()
    }
}
impl<S, I, const N: usize> Sources<S> for [NodeKey<S, I>; N] {}

macro_rules! tuples {
    ($(($($payload:ident)+))+) => {$(
        impl<S, $($payload),+> sealed::List for ($(NodeKey<S, $payload>,)+) {
            fn into_list(self) -> Vec<Named> {
                #[allow(non_snake_case, reason = "each key is named after its payload's type")]
                let ($($payload,)+) = self;
                vec![$(Named::from($payload)),+]
            }
        }
        impl<S, $($payload),+> Sources<S> for ($(NodeKey<S, $payload>,)+) {}
    )+};
}

tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}
