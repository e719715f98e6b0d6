//! What a third party needs to refuse an attempt that has lost its run.

use std::fmt;
use std::str::FromStr;

use crate::context::{Context, StepKey};
use crate::run_id::RunId;
use crate::state::State;

/// The run and the fence under which an attempt works. A run's fence grows each time it changes hands, so a
/// third party that keeps the greatest one it has seen of each run, and refuses smaller ones, takes
/// nothing from an attempt that has lost its run and does not know it yet.
///
/// The node sends it as a header, and the other side checks it:
///
/// ```
/// use std::collections::HashMap;
/// use velo_engine::{Fence, RunId};
///
/// /// The newest fence of each run; in a database, a row that is only ever raised.
/// #[derive(Default)]
/// struct Fences(HashMap<RunId, i64>);
///
/// impl Fences {
///     /// Whether the request may have its effect.
///     fn admit(&mut self, header: &str) -> bool {
///         let Ok(fence) = header.parse::<Fence>() else { return false };
///         let newest = self.0.entry(fence.run).or_insert(fence.number);
///         *newest = fence.number.max(*newest);
///         fence.number == *newest
///     }
/// }
///
/// let mut fences = Fences::default();
/// assert!(fences.admit("run=7; fence=1"));
/// assert!(fences.admit("run=7; fence=2"), "the run has changed hands");
/// assert!(!fences.admit("run=7; fence=1"), "a late comer");
/// ```
///
/// In SQL, where no row comes back the request is refused:
///
/// ```sql
/// insert into fence (run, number) values ($1, $2)
/// on conflict (run) do update set number = excluded.number where fence.number <= excluded.number
/// returning run
/// ```
///
/// Who writes to the engine's own database asks it instead, inside of the transaction that writes:
/// `select velo.check_fence($1, $2)` is true while the lease holds, and keeps it until the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The run.
    pub run: RunId,
    /// Grows each time the run changes hands.
    pub number: i64,
}

impl Fence {
    /// The name of the header that carries it.
    pub const HEADER: &'static str = "velo-fence";
}

/// As a header's value: `run=7; fence=2`.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run={}; fence={}", self.run, self.number)
    }
}

/// A header's value that is no [`Fence`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no fence: a fence looks like `run=7; fence=2`")]
pub struct NoFence(String);

impl FromStr for Fence {
    type Err = NoFence;

    fn from_str(text: &str) -> Result<Self, NoFence> {
        let parsed = || {
            let (run, number) = text.split_once(';')?;
            let run = run.trim().strip_prefix("run=")?.parse().ok()?;
            let number = number.trim().strip_prefix("fence=")?.parse().ok()?;
            Some(Self { run, number })
        };
        parsed().ok_or_else(|| NoFence(text.to_owned()))
    }
}

impl<S: State, I> Context<S, I> {
    /// The name and the value of a header that tells a third party under which fence the attempt works; see
    /// [`Fence`] for its side.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use velo_engine::{StepKey, prelude::*};
    /// # #[derive(State, Debug, Clone, Default, Serialize, Deserialize)]
    /// # struct Order { receipt: String }
    /// # async fn post(_: &str, _: &[(&str, String)]) -> std::io::Result<String> { Ok(String::new()) }
    /// async fn charge(cx: Context<Order>) -> NodeResult<Order> {
    ///     let pay = async |key: StepKey| {
    ///         post("https://bank.example/charges", &[cx.fence_header(), key.header()]).await
    ///     };
    ///     let receipt = cx.step("pay", pay).await?;
    ///     Ok(Order::update().receipt(receipt).into())
    /// }
    /// ```
    #[must_use]
    pub fn fence_header(&self) -> (&'static str, String) {
        let fence = Fence {
            run: self.run(),
            number: self.fence(),
        };
        (Fence::HEADER, fence.to_string())
    }
}

impl StepKey {
    /// The name of the header that carries it.
    pub const HEADER: &'static str = "idempotency-key";

    /// The name and the value of a header by which a third party can tell that it is asked for the same side
    /// effect again: it answers as it did the first time, and does it once.
    #[must_use]
    pub fn header(&self) -> (&'static str, String) {
        let quoted: String = self
            .to_string()
            .chars()
            .flat_map(|letter| match letter {
                '"' | '\\' => vec!['\\', letter],
                ' '..='~' => vec![letter],
                // A header's value has no others.
                other => other.escape_unicode().filter(|it| *it != '\\').collect(),
            })
            .collect();
        (Self::HEADER, format!("\"{quoted}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_read_back_as_it_is_written() {
        let fence = Fence {
            run: RunId::from_i64(7),
            number: 3,
        };
        assert_eq!(fence.to_string().parse(), Ok(fence));
        for text in ["", "7", "run=7", "run=7; fence=", "run=x; fence=1"] {
            assert_eq!(text.parse::<Fence>(), Err(NoFence(text.to_owned())));
        }
    }
}
