//! Places for connections. When all are taken, whoever was silent for the longest leaves: nobody can keep others out by
//! holding connections open and saying nothing. How many places there are, and for whom, is the owner's decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Clones share the places.
#[derive(Clone)]
pub struct Places {
    shared: Arc<Shared>,
}

struct Shared {
    bound: usize,
    /// A guest that was heard of within this time does not have to leave.
    respite: Duration,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    last_number: u64,
    /// By number, so the one silent for the longest comes first.
    present: BTreeMap<u64, Guest>,
}

struct Guest {
    heard: Instant,
    leave: CancellationToken,
}

/// A taken place, given back when it is dropped.
pub struct Place {
    shared: Arc<Shared>,
    number: Mutex<Option<u64>>,
    leave: CancellationToken,
}

impl Places {
    /// `bound` places, whose guests must leave for others after a silence of `respite`.
    pub fn new(bound: usize, respite: Duration) -> Places {
        Places { shared: Arc::new(Shared { bound, respite, guests: Mutex::default() }) }
    }

    /// `None`: all places are taken by guests that were heard of within the respite.
    pub fn take(&self) -> Option<Place> {
        let leave = CancellationToken::new();
        let number = self.shared.enter(&leave)?;
        Some(Place { shared: self.shared.clone(), number: Mutex::new(Some(number)), leave })
    }

    /// Places taken now.
    pub fn taken(&self) -> usize {
        self.shared.guests.lock().present.len()
    }
}

impl Shared {
    fn enter(&self, leave: &CancellationToken) -> Option<u64> {
        let mut guests = self.guests.lock();
        if guests.present.len() >= self.bound {
            let oldest = guests.present.first_entry().filter(|oldest| oldest.get().heard.elapsed() >= self.respite)?;
            oldest.remove().leave.cancel();
        }
        guests.last_number += 1;
        let number = guests.last_number;
        guests.present.insert(number, Guest { heard: Instant::now(), leave: leave.clone() });
        Some(number)
    }
}

impl Place {
    /// The guest was heard of: of all guests it is now the last to leave.
    pub fn heard(&self) {
        let mut number = self.number.lock();
        let mut guests = self.shared.guests.lock();
        let Some(mut guest) = number.and_then(|number| guests.present.remove(&number)) else { return };
        guest.heard = Instant::now();
        guests.last_number += 1;
        *number = Some(guests.last_number);
        let key = guests.last_number;
        guests.present.insert(key, guest);
    }

    /// Gives the place back for as long as the guest is somewhere else.
    pub fn step_out(&self) {
        if let Some(number) = self.number.lock().take() {
            self.shared.guests.lock().present.remove(&number);
        }
    }

    /// Takes a place again after `step_out`. False when none is to be had: the guest has to leave.
    pub fn step_in(&self) -> bool {
        let mut number = self.number.lock();
        if number.is_none() {
            *number = self.shared.enter(&self.leave);
        }
        number.is_some()
    }

    /// Returns when the guest has to leave.
    pub async fn must_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.step_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(place: &Place) -> bool {
        place.leave.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_silent_for_the_longest_leaves_but_only_after_the_respite() {
        let places = Places::new(2, Duration::from_secs(10));
        let (first, second) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none(), "both have just come");
        tokio::time::sleep(Duration::from_secs(10)).await;
        first.heard();
        let third = places.take().unwrap();
        assert!(left(&second) && !left(&first));
        assert!(places.take().is_none(), "the other two were heard of");
        second.heard();
        drop(second);
        assert_eq!(places.taken(), 2, "who had to leave neither comes back nor gives a place of others back");
        drop(third);
        assert!(places.take().is_some() && !left(&first));
    }

    #[test]
    fn a_guest_that_stepped_out_cannot_be_sent_away_and_takes_a_place_again() {
        let places = Places::new(1, Duration::ZERO);
        let first = places.take().unwrap();
        first.step_out();
        let second = places.take().unwrap();
        assert!(!left(&first) && !left(&second));
        assert!(first.step_in());
        assert!(left(&second) && !left(&first));
        assert_eq!(places.taken(), 1);
    }
}
