//! Draws faults and lets them happen, one after the other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::load::LEASE;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::workers::Workers;

/// What has happened, and how often.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<&'static str, u64>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(what, times)| format!("{what} {times}"))
            .collect();
        f.write_str(&all.join(", "))
    }
}

pub(crate) struct Chaos {
    drawn: u64,
}

impl Chaos {
    pub(crate) fn new(seed: u64) -> Self {
        Self { drawn: seed }
    }

    /// A number below `end`.
    fn draw(&mut self, end: u64) -> u64 {
        // SplitMix64, as in Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.drawn;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_millis()).unwrap();
        least + Duration::from_millis(self.draw(span + 1))
    }

    pub(crate) async fn rage(
        &mut self,
        server: &Server,
        workers: &mut Workers,
        proxy: &Proxy,
        time: Duration,
    ) -> Told {
        let until = Instant::now() + time;
        let mut told = Told::default();
        while Instant::now() < until {
            let pause = self.between(Duration::from_millis(300), Duration::from_secs(3));
            tokio::time::sleep(pause).await;
            workers.look();
            // The first is never killed, so that its memory can be told over time.
            let other = 1 + usize::try_from(self.draw(workers.number() as u64 - 1)).unwrap();
            let what = match self.draw(10) {
                0..=3 => {
                    workers.kill(other).await;
                    "kills"
                }
                4 | 5 => {
                    let time = self.between(LEASE / 4, LEASE * 2);
                    workers.freeze(other, time).await;
                    "freezes"
                }
                6 => {
                    workers.replace(other).await;
                    "stops in order"
                }
                7 => {
                    server.crash().await;
                    "crashes of Postgres"
                }
                8 => {
                    server.end_sessions().await;
                    "ends of all sessions"
                }
                _ => {
                    proxy.close();
                    let time = self.between(Duration::from_millis(100), LEASE);
                    tokio::time::sleep(time).await;
                    proxy.open();
                    "cuts of the network"
                }
            };
            *told.0.entry(what).or_default() += 1;
        }
        told
    }
}
