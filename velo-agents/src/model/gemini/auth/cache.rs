//! Keeps a token until shortly before it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{Secret, TokenSource};
use crate::model::ModelError;

/// How long before its end a token is replaced; clocks differ and requests last.
pub(super) const REFRESH_BEFORE_END: Duration = Duration::from_secs(240);

/// A token in memory, fetched by one caller at a time: whoever comes meanwhile waits and shares it.
#[derive(Debug)]
pub struct TokenCache {
    source: Arc<dyn TokenSource>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    value: Secret,
    /// `None` for a token without an end.
    good_until: Option<Instant>,
}

impl TokenCache {
    /// An empty cache before `source`.
    #[must_use]
    pub fn new(source: Arc<dyn TokenSource>) -> Self {
        Self {
            source,
            kept: Mutex::new(None),
        }
    }

    /// A token that is good for some minutes.
    ///
    /// # Errors
    /// As [`TokenSource::fetch`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the fetch; the next caller begins it again.
    pub async fn token(&self) -> Result<Secret, ModelError> {
        self.token_at(Instant::now()).await
    }

    /// Forgets `token` because a server refused it. Does nothing when it was replaced meanwhile.
    ///
    /// # Cancel safety
    /// Nothing is lost; the token may still be remembered.
    pub async fn refuse(&self, token: &Secret) {
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.value == *token) {
            *kept = None;
        }
    }

    async fn token_at(&self, now: Instant) -> Result<Secret, ModelError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && kept.good_until.is_none_or(|end| now < end)
        {
            return Ok(kept.value.clone());
        }
        let fetched = self.source.fetch().await?;
        let good_until = fetched.lifetime.map(|lifetime| {
            // A token that lives shorter than the margin is still used for half its life.
            now + lifetime
                .saturating_sub(REFRESH_BEFORE_END)
                .max(lifetime / 2)
        });
        let value = fetched.value.clone();
        *kept = Some(Kept {
            value: fetched.value,
            good_until,
        });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::AccessToken;
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Numbers its tokens, which live as long as it was told.
    #[derive(Debug)]
    struct Counting {
        made: AtomicU64,
        lifetime: Option<Duration>,
    }

    #[async_trait]
    impl TokenSource for Counting {
        async fn fetch(&self) -> Result<AccessToken, ModelError> {
            tokio::task::yield_now().await;
            let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
            Ok(AccessToken {
                value: Secret::new(format!("token-{number}")),
                lifetime: self.lifetime,
            })
        }
    }

    fn cache(lifetime: Option<Duration>) -> TokenCache {
        TokenCache::new(Arc::new(Counting {
            made: AtomicU64::new(0),
            lifetime,
        }))
    }

    #[tokio::test]
    async fn a_token_is_replaced_four_minutes_before_its_end() {
        let cache = cache(Some(Duration::from_secs(3600)));
        let start = Instant::now();
        for (seconds, wanted) in [
            (0, "token-1"),
            (3359, "token-1"),
            (3360, "token-2"),
            (3361, "token-2"),
        ] {
            let token = cache
                .token_at(start + Duration::from_secs(seconds))
                .await
                .unwrap();
            assert_eq!(token.expose(), wanted, "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_fetch() {
        let cache = cache(None);
        let tokens = futures::future::join_all((0..20).map(|_| cache.token())).await;
        for token in tokens {
            assert_eq!(token.unwrap().expose(), "token-1");
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once() {
        let cache = cache(None);
        let first = cache.token().await.unwrap();
        cache.refuse(&first).await;
        assert_eq!(cache.token().await.unwrap().expose(), "token-2");
        cache.refuse(&first).await;
        assert_eq!(cache.token().await.unwrap().expose(), "token-2");
    }
}
