//! Draws from a seeded generator, in the words of what is drawn.

use std::time::Duration;

use streammanager::time::Rng;

/// One stream of draws; clones continue the same one.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Rng);

impl Dice {
    /// Streams of one seed with different names have nothing in common.
    pub(crate) fn new(seed: u64, name: u64) -> Dice {
        Dice(Rng::seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name))
    }

    pub(crate) fn rng(&self) -> &Rng {
        &self.0
    }

    /// From 0 to `most - 1`; 0 when `most` is 0.
    pub(crate) fn below(&self, most: u64) -> u64 {
        u64::from_le_bytes(self.0.bytes()) % most.max(1)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn between(&self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX);
        least + Duration::from_millis(self.below(span + 1))
    }
}
