//! Streams that keep their order [K3]: of one, only what goes together is in work, and the rest waits behind it.
//!
//! A try that fails may end while a later one succeeds, so that nothing of such a stream is sent before all of what came
//! earlier is accounted for. Small envelopes go together, or each would wait for a broker's whole answer.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use ulid::Ulid;

use super::Desk;
use crate::breaker::BreakerState;
use crate::deliver::settle::Held;
use crate::limits::{BULK_IN_FLIGHT_ENVELOPES, PROBES, RUN_ENVELOPES};
use crate::queue::Receipt;
use crate::record::{Envelope, StreamId, Tier};
use crate::sink::Lane;

/// What a bulk tier can start.
#[derive(Debug)]
pub(super) enum Next {
    /// Envelopes at these places of the hand, which go together.
    Run(Vec<usize>),
    /// The one at this place, once what was before it in its stream has ended.
    Busy(usize),
    /// What is in hand waits for something else, if there is any.
    Nothing,
}

/// Received envelopes of a stream behind the one that waits to be tried again, or behind its probe: how to give them back.
pub(super) type Parked = BTreeMap<Ulid, Receipt>;

/// The stream whose order an envelope keeps. Alerts keep that of their thread instead [E4].
pub(super) fn stream_of(envelope: &Envelope) -> Option<&StreamId> {
    (envelope.in_order && envelope.tier != Tier::Critical).then_some(&envelope.stream)
}

impl Desk<'_> {
    /// The oldest that may start; of a stream that keeps its order with those that follow, up to the tier's largest send.
    pub(super) fn next_bulk(&self, tier: Tier) -> Next {
        let Some(hand) = self.hands.get(&tier) else { return Next::Nothing };
        let now = Instant::now();
        // Behind an open breaker anything is good for the probe.
        let is_closed = self.app.breakers.lane(Lane::of(tier)).state() == BreakerState::Closed;
        let in_work: BTreeMap<&StreamId, Instant> = self
            .in_work
            .values()
            .filter(|work| work.tier == tier)
            .filter_map(|work| Some((work.stream.as_ref()?, work.turn_ends)))
            .collect();
        let (mut waiting, mut busy, mut probe) = (BTreeSet::new(), None, None::<usize>);
        for (at, held) in hand.iter().enumerate() {
            let stream = stream_of(&held.envelope);
            if stream.is_some_and(|stream| waiting.contains(stream)) {
                continue;
            }
            match stream.and_then(|stream| in_work.get(stream)) {
                Some(turn_ends) => {
                    if now < *turn_ends {
                        busy = busy.or(Some(at));
                    }
                    waiting.extend(stream);
                }
                None if is_closed && held.due > now => waiting.extend(stream),
                None if is_closed => return Next::Run(self.run(hand.iter().enumerate().skip(at), tier)),
                // The one that failed the fewest times, of these the oldest.
                None => {
                    if probe.is_none_or(|best| held.failed < hand[best].failed) {
                        probe = Some(at);
                    }
                    waiting.extend(stream);
                }
            }
        }
        if let Some(at) = probe {
            return Next::Run(vec![at]);
        }
        busy.map_or(Next::Nothing, Next::Busy)
    }

    /// When the stream's head waits to be tried again, the rest of it makes room for other streams.
    pub(super) fn park_behind_head(&mut self, tier: Tier, stream: &StreamId) {
        let is_closed = self.app.breakers.lane(Lane::of(tier)).state() == BreakerState::Closed;
        let now = Instant::now();
        let hand = self.hand(tier);
        let of_stream = |held: &Held| stream_of(&held.envelope) == Some(stream);
        let mut places = hand.iter().enumerate().filter(|(_, held)| of_stream(held));
        if places.next().is_none_or(|(_, head)| is_closed && head.due <= now) {
            return;
        }
        let behind: Vec<usize> = places.map(|(at, _)| at).collect();
        let behind: Vec<Held> = behind.into_iter().rev().filter_map(|at| hand.remove(at)).collect();
        let parked = self.parked.entry((tier, stream.clone())).or_default();
        parked.extend(behind.into_iter().map(|held| (held.envelope.id, held.receipt)));
    }

    /// Lets go what is parked behind a head that waits no more, while the lane is well.
    pub(super) fn unpark(&mut self, tier: Tier) -> Vec<Receipt> {
        let waits = |stream: &StreamId| {
            let mut failed = self.hands.get(&tier).into_iter().flatten().filter(|held| held.failed > 0);
            let mut in_work = self.in_work.values().filter(|work| work.tier == tier);
            failed.any(|head| stream_of(&head.envelope) == Some(stream))
                || in_work.any(|work| work.stream.as_ref() == Some(stream))
        };
        let of_tier = self.parked.keys().filter(|(of, stream)| *of == tier && !waits(stream));
        let streams: Vec<(Tier, StreamId)> = of_tier.cloned().collect();
        let parked = streams.iter().filter_map(|stream| self.parked.remove(stream));
        parked.flat_map(BTreeMap::into_values).collect()
    }

    /// So many envelopes stay in hand behind an open breaker: more, the more often a probe failed, or the one whose own topic
    /// is away would be the only one that is ever tried.
    pub(super) fn probes(&self, tier: Tier) -> usize {
        let failed = self.hands.get(&tier).into_iter().flatten().map(|held| held.failed as usize);
        (1 + failed.max().unwrap_or(0)).min(PROBES)
    }

    pub(super) fn parked_of(&self, tier: Tier) -> impl Iterator<Item = &Receipt> {
        self.parked.iter().filter(move |((of, _), _)| *of == tier).flat_map(|(_, parked)| parked.values())
    }

    /// Parks what was received behind a stream's head that waits; behind an open breaker a probe of each stream is enough.
    /// Whether it did.
    pub(super) fn parks(&mut self, held: &Held) -> bool {
        let (tier, stream) = (held.envelope.tier, &held.envelope.stream);
        if tier == Tier::Critical {
            return false;
        }
        let key = (tier, stream.clone());
        let is_closed = self.app.breakers.lane(Lane::of(tier)).state() == BreakerState::Closed;
        let is_behind = if is_closed {
            held.envelope.in_order && self.parked.contains_key(&key)
        } else {
            self.hand(tier).iter().any(|other| other.envelope.stream == *stream)
                || self.in_work.values().any(|work| work.tier == tier && work.stream.as_ref() == Some(stream))
        };
        if is_behind {
            self.parked.entry(key).or_default().insert(held.envelope.id, held.receipt.clone());
        }
        is_behind
    }

    /// Places of what goes together, beginning with the first.
    fn run<'h>(&self, mut from: impl Iterator<Item = (usize, &'h Held)>, tier: Tier) -> Vec<usize> {
        let Some((at, first)) = from.next() else { return Vec::new() };
        let (mut places, mut records) = (vec![at], first.envelope.count as usize);
        let Some(stream) = stream_of(&first.envelope) else { return places };
        let room = BULK_IN_FLIGHT_ENVELOPES.saturating_sub(self.bulk_in_flight()).min(RUN_ENVELOPES);
        for (at, held) in from.filter(|(_, held)| stream_of(&held.envelope) == Some(stream)) {
            records += held.envelope.count as usize;
            if places.len() >= room || records > tier.largest_send() {
                break;
            }
            places.push(at);
        }
        places
    }
}
