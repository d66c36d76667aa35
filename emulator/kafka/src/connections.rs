//! Places for connections. Whoever connects gets one as long as somebody can be found who does not use theirs: first those
//! that never asked for anything, the longest-waiting one first, then those that have been idle longest, as Kafka's clients
//! expect of a broker and connect again. Only when all places are in use is a newcomer turned away. A flood is one warning.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::{FIRST_REPORT, IDLE_MAY_GO, NEXT_REPORT};

/// All open connections, by the order in which they came.
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    came: u64,
    places: BTreeMap<u64, Arc<Place>>,
}

/// What the endpoint knows of one connection.
struct Place {
    using: Mutex<Use>,
    leave: CancellationToken,
}

#[derive(Clone, Copy)]
struct Use {
    /// Whether a request has arrived yet.
    asked: bool,
    /// Requests that are arriving or not answered yet.
    pending: usize,
    since: Instant,
}

/// A connection's hold on its place, given back when dropped.
pub(super) struct Seat {
    connections: Arc<Connections>,
    number: u64,
    place: Arc<Place>,
}

/// What became of somebody who connected.
pub(super) enum Admission {
    /// `displaced` says whether another connection was closed for it.
    Seated {
        seat: Seat,
        displaced: bool,
    },
    Full,
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    pub(super) fn admit(self: &Arc<Self>, now: Instant) -> Admission {
        let mut open = self.open.lock();
        let displaced = open.places.len() >= self.most;
        if displaced && !open.displace(now) {
            return Admission::Full;
        }
        open.came += 1;
        let number = open.came;
        let fresh = Use { asked: false, pending: 0, since: now };
        let place = Arc::new(Place { using: Mutex::new(fresh), leave: CancellationToken::new() });
        open.places.insert(number, place.clone());
        Admission::Seated { seat: Seat { connections: self.clone(), number, place }, displaced }
    }

    /// Closes a connection that is not in use, if there is one: the process has no file descriptor left.
    pub(super) fn make_room(&self, now: Instant) {
        self.open.lock().displace(now);
    }
}

impl Open {
    fn displace(&mut self, now: Instant) -> bool {
        let idle = |using: &Use| using.pending == 0 && now.duration_since(using.since) >= IDLE_MAY_GO;
        let uses = self.places.iter().map(|(number, place)| (*number, *place.using.lock()));
        let leaves = uses
            .filter(|(_, using)| !using.asked || idle(using))
            .min_by_key(|(number, using)| (using.asked, using.since, *number));
        let Some(place) = leaves.and_then(|(number, _)| self.places.remove(&number)) else { return false };
        place.leave.cancel();
        true
    }
}

impl Seat {
    /// A request begins to arrive.
    pub(super) fn begin(&self) {
        self.place.using.lock().pending += 1;
    }

    /// The request is here.
    pub(super) fn asked(&self) {
        self.place.using.lock().asked = true;
    }

    /// A request is answered, or needs no answer.
    pub(super) fn end(&self, now: Instant) {
        let mut using = self.place.using.lock();
        (using.pending, using.since) = (using.pending.saturating_sub(1), now);
    }

    /// Completes when somebody else needs the place.
    pub(super) async fn displaced(&self) {
        self.place.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.open.lock().places.remove(&self.number);
    }
}

/// Counts the connections that found no place or lost theirs, so that a flood of them is one warning and not thousands.
#[derive(Default)]
pub(super) struct Flood {
    counted: Counted,
    /// When what was counted is reported.
    due: Option<Instant>,
    reported: Option<Instant>,
}

/// What a flood did since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) refused: u64,
    pub(super) displaced: u64,
    pub(super) failed: u64,
    /// The last reason for which a connection could not be accepted.
    pub(super) error: Option<String>,
}

impl Flood {
    pub(super) fn count(&mut self, now: Instant, count: impl FnOnce(&mut Counted)) {
        count(&mut self.counted);
        let again = self.reported.is_some_and(|at| now.duration_since(at) < NEXT_REPORT);
        self.due.get_or_insert(now + if again { NEXT_REPORT } else { FIRST_REPORT });
    }

    /// Completes when there is something to report.
    pub(super) async fn due(&self) {
        match self.due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// What was counted; counting begins anew.
    pub(super) fn report(&mut self, now: Instant) -> Option<Counted> {
        self.due.take()?;
        self.reported = Some(now);
        Some(std::mem::take(&mut self.counted))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seat(connections: &Arc<Connections>, now: Instant) -> Option<(Seat, bool)> {
        match connections.admit(now) {
            Admission::Seated { seat, displaced } => Some((seat, displaced)),
            Admission::Full => None,
        }
    }

    fn lost(seat: &Seat) -> bool {
        seat.place.leave.is_cancelled()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_longest_silent_one_then_of_the_longest_idle_one() {
        let (connections, start) = (Connections::new(3), Instant::now());
        let [idle, busy, silent] = [0, 1, 2].map(|s| seat(&connections, start + Duration::from_secs(s)).unwrap().0);
        for asking in [&idle, &busy] {
            asking.begin();
            asking.asked();
        }
        idle.end(start + Duration::from_secs(3));
        let now = start + Duration::from_secs(3);
        let (second, displaced) = seat(&connections, now).unwrap();
        assert!(displaced && lost(&silent) && !lost(&idle) && !lost(&busy));
        second.begin();
        second.asked();
        assert!(seat(&connections, now).is_none(), "everybody was heard a moment ago");
        let later = now + IDLE_MAY_GO;
        let (third, displaced) = seat(&connections, later).unwrap();
        assert!(displaced && lost(&idle) && !lost(&busy) && !lost(&second));
        drop((silent, idle, third));
        assert!(!seat(&connections, later).unwrap().1, "a place that was given back is free");
    }

    #[test]
    fn a_request_that_only_begins_to_arrive_protects_nobody_who_never_asked() {
        let (connections, now) = (Connections::new(1), Instant::now());
        let (half, _) = seat(&connections, now).unwrap();
        half.begin();
        assert!(seat(&connections, now).unwrap().1);
        assert!(lost(&half));
    }

    #[test]
    fn a_flood_is_one_report_with_a_count_and_then_one_a_minute() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        assert_eq!(flood.report(start), None);
        for nth in 0..10_000 {
            let count = |counted: &mut Counted| counted.refused += 1;
            flood.count(start + Duration::from_millis(nth / 10), count);
        }
        assert_eq!(flood.due, Some(start + FIRST_REPORT));
        let at = start + FIRST_REPORT;
        assert_eq!(flood.report(at).unwrap().refused, 10_000);
        flood.count(at, |counted| counted.displaced += 1);
        assert_eq!(flood.due, Some(at + NEXT_REPORT));
        let quiet = at + 2 * NEXT_REPORT;
        assert_eq!(flood.report(quiet), Some(Counted { displaced: 1, ..Counted::default() }));
        flood.count(quiet + NEXT_REPORT, |counted| counted.refused += 1);
        assert_eq!(flood.due, Some(quiet + NEXT_REPORT + FIRST_REPORT));
    }
}
