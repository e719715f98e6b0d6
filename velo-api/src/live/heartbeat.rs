/// Whether a peer is still there: it has said something, if only a pong, since it was last asked.
#[derive(Debug)]
pub(super) struct Heartbeat {
    heard: bool,
}

/// What to do when it is time to ask again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask.
    Ping,
    /// Give up.
    Dead,
}

impl Heartbeat {
    /// A peer that has just connected.
    pub(super) const fn new() -> Self {
        Self { heard: true }
    }

    /// Notes that the peer said something.
    pub(super) const fn hear(&mut self) {
        self.heard = true;
    }

    /// To be called at every interval.
    pub(super) const fn beat(&mut self) -> Beat {
        if std::mem::replace(&mut self.heard, false) {
            Beat::Ping
        } else {
            Beat::Dead
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_dead_once_it_was_silent_for_a_whole_interval() {
        let mut peer = Heartbeat::new();
        assert_eq!(peer.beat(), Beat::Ping);
        peer.hear();
        assert_eq!(peer.beat(), Beat::Ping);
        assert_eq!(peer.beat(), Beat::Dead);
    }
}
