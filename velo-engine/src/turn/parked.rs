//! Noticing that an attempt can only go on when something comes from outside.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::context::Scene;

/// Runs an attempt until it ends, or until all that is left of it waits for something outside.
///
/// The waits of a context return `Pending` without keeping the waker. So when the attempt is pending,
/// has waits, and nobody holds its waker, nothing in this process will ever wake it.
pub(super) struct UntilParked<F> {
    attempt: Pin<Box<F>>,
    scene: Arc<Scene>,
    bell: Arc<Bell>,
}

/// The attempt's waker: passes on to whoever polls.
#[derive(Debug)]
struct Bell {
    outer: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        outer.wake_by_ref();
    }
}

impl<F: Future> UntilParked<F> {
    pub(super) fn new(attempt: F, scene: Arc<Scene>) -> Self {
        Self {
            attempt: Box::pin(attempt),
            scene,
            bell: Arc::new(Bell {
                outer: Mutex::new(Waker::noop().clone()),
            }),
        }
    }
}

impl<F: Future> Future for UntilParked<F> {
    /// `None` when the attempt was parked.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        {
            let mut outer = self
                .bell
                .outer
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            outer.clone_from(cx.waker());
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        let polled = self.attempt.as_mut().poll(&mut Context::from_waker(&waker));
        drop(waker);
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.scene.is_waiting() && Arc::strong_count(&self.bell) == 1 => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
