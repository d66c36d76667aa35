//! What a function gets together: Lambda's batches of an event source as a pure state machine [L5]. Messages of a queue, and records of a
//! stream's lane, gather until there are as many as a batch takes, or an event is full, or the window is over that began with the first.

use std::collections::VecDeque;
use std::time::Duration;

use streammanager::queue::{Body, Delivery};
use tokio::time::Instant;

/// What an event says of a message beside its body, about.
const EVENT_MESSAGE_BYTES: usize = 800;

/// What makes a batch, of a queue's messages or of a stream's records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) batch_size: usize,
    /// Of an event.
    pub(crate) bytes: usize,
    pub(crate) window: Duration,
}

/// What gathers, in its order.
#[derive(Debug)]
pub(crate) struct Gathering<T> {
    bounds: Bounds,
    /// With the bytes that an event needs for each.
    gathered: VecDeque<(usize, T)>,
    filled: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl<T> Gathering<T> {
    pub(crate) fn new(bounds: Bounds) -> Gathering<T> {
        Gathering { bounds, gathered: VecDeque::new(), filled: 0, since: None }
    }

    pub(crate) fn add(&mut self, one: T, event_bytes: usize, now: Instant) {
        self.since.get_or_insert(now);
        self.filled += event_bytes;
        self.gathered.push_back((event_bytes, one));
    }

    /// How many more the batch has room for.
    pub(crate) fn room(&self) -> usize {
        self.bounds.batch_size.saturating_sub(self.gathered.len())
    }

    /// The bytes that an event needs for all of it.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Whether the batch takes no more.
    pub(crate) fn is_full(&self) -> bool {
        self.room() == 0 || self.filled >= self.bounds.bytes
    }

    /// When the window is over; none while there is nothing.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.since.map(|since| since + self.bounds.window)
    }

    /// The batch, once it is one.
    pub(crate) fn batch(&mut self, now: Instant) -> Option<Vec<T>> {
        if !self.is_full() && self.ends().is_none_or(|ends| ends > now) {
            return None;
        }
        let (mut batch, mut filled) = (Vec::new(), 0);
        while let Some((more, _)) = self.gathered.front() {
            if batch.len() == self.bounds.batch_size || (filled + more > self.bounds.bytes && !batch.is_empty()) {
                break;
            }
            filled += more;
            batch.extend(self.gathered.pop_front().map(|(_, one)| one));
        }
        self.filled -= filled;
        self.since = (!self.gathered.is_empty()).then_some(now);
        Some(batch)
    }

    /// What is gathered and not yet a batch.
    pub(crate) fn rest(&mut self) -> Vec<T> {
        (self.filled, self.since) = (0, None);
        self.gathered.drain(..).map(|(_, one)| one).collect()
    }
}

/// As JSON, about.
pub(crate) fn event_bytes(delivery: &Delivery) -> usize {
    let body = match &delivery.body {
        Body::Text(text) => text.bytes().map(json_bytes).sum(),
        Body::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    body + EVENT_MESSAGE_BYTES
}

fn json_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..32 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use streammanager::queue::Receipt;
    use streammanager::time::Timestamp;

    use super::*;

    fn messages(bodies: &[&str]) -> Vec<Delivery> {
        let message = |body: &&str| Delivery {
            id: (*body).to_owned(),
            body: Body::Text((*body).to_owned()),
            receipt: Receipt("r".into()),
            receives: 1,
            sent_at: Timestamp::UNIX_EPOCH,
        };
        bodies.iter().map(message).collect()
    }

    fn gathering(batch_size: usize, bytes: usize, seconds: u64) -> Gathering<Delivery> {
        Gathering::new(Bounds { batch_size, bytes, window: Duration::from_secs(seconds) })
    }

    fn add(gathering: &mut Gathering<Delivery>, messages: Vec<Delivery>, now: Instant) {
        for message in messages {
            let bytes = event_bytes(&message);
            gathering.add(message, bytes, now);
        }
    }

    fn ids(batch: Option<Vec<Delivery>>) -> Option<String> {
        batch.map(|batch| batch.into_iter().map(|delivery| delivery.id).collect())
    }

    #[tokio::test]
    async fn l5_messages_gather_until_the_batch_is_full_or_its_window_is_over() {
        let (mut gathering, now) = (gathering(3, 1 << 20, 5), Instant::now());
        assert_eq!((gathering.batch(now), gathering.ends(), gathering.room()), (None, None, 3));
        add(&mut gathering, messages(&["a", "b"]), now);
        assert_eq!((gathering.batch(now + Duration::from_secs(4)), gathering.room()), (None, 1));
        add(&mut gathering, messages(&["c", "d"]), now + Duration::from_secs(4));
        assert_eq!(ids(gathering.batch(now + Duration::from_secs(4))).as_deref(), Some("abc"));
        assert_eq!(gathering.batch(now + Duration::from_secs(8)), None);
        assert_eq!(ids(gathering.batch(now + Duration::from_secs(9))).as_deref(), Some("d"));
    }

    #[tokio::test]
    async fn l5_an_event_that_is_full_is_a_batch_and_what_has_no_room_waits_for_the_next() {
        let (mut gathering, now) = (gathering(10_000, 6 * 1024 * 1024, 300), Instant::now());
        // A quotation mark takes two bytes of an event.
        let large = "\"".repeat(1024 * 1024);
        add(&mut gathering, messages(&[&large, &large]), now);
        assert_eq!(gathering.batch(now), None);
        add(&mut gathering, messages(&[&large, "small"]), now);
        assert_eq!(gathering.batch(now).map(|batch| batch.len()), Some(2));
        assert_eq!(gathering.batch(now), None);
        assert_eq!(gathering.rest().len(), 2);
        assert_eq!((gathering.ends(), gathering.room()), (None, 10_000));
    }
}
