use velo_agents::domain::{ProjectEvent, ProjectId};

use super::listener::News;

/// A project that a socket watches, and how far it has been told.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) project: ProjectId,
    pub(super) stream: String,
    /// Place of the last event that was sent.
    pub(super) seen: i64,
    /// Whether there may be more than that.
    pub(super) stale: bool,
}

impl Watched {
    pub(super) fn new(project: ProjectId, seen: i64) -> Self {
        Self {
            project,
            stream: ProjectEvent::stream(project),
            seen,
            stale: true,
        }
    }

    pub(super) fn hear(&mut self, news: &News) {
        self.stale |= match news {
            News::Of(stream) => **stream == *self.stream,
            News::OfAnything => true,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_of_its_own_stream_or_of_anything_make_it_look() {
        let hears = |news| {
            let mut watched = Watched::new(ProjectId::named(uuid::Uuid::nil(), "a"), 0);
            watched.stale = false;
            watched.hear(&news);
            watched.stale
        };
        let stream = |name| ProjectEvent::stream(ProjectId::named(uuid::Uuid::nil(), name));
        assert!(hears(News::Of(stream("a").into())));
        assert!(!hears(News::Of(stream("b").into())));
        assert!(hears(News::OfAnything));
    }
}
