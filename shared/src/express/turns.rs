//! Turns for what one connection sends and others work on at the same time, so that threads keep their order [E4].
//!
//! A message waits for all that its connection sent before, with one exception: an alert that begins a thread waits for
//! nobody. Nothing that came before can be of its thread, except what refers to it and waits for it. So a Cancel that waits for
//! a message nobody has does not hold up the next fire. An alert begins a thread when it refers to nothing, no instance has
//! accepted its name, and no message of its name is under way.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::App;
use crate::decode::{Context, Format};
use crate::limits::HEDGE;
use crate::record::SourceId;
use crate::time::Timestamp;

/// Lanes that are looked through for idle ones when there are more, and places of a lane.
const LOOKED_THROUGH: usize = 1_000;

/// By lane, what is under way in it.
#[derive(Debug)]
pub struct Turns<Lane>(BTreeMap<Lane, Vec<Place>>);

#[derive(Debug)]
struct Place {
    /// What its alerts are called; empty where that is not known.
    names: Vec<String>,
    /// It waits for all before it: who waits for it need not wait for them.
    waits: bool,
    over: CancellationToken,
}

/// A place in a lane. The turn is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    before: Vec<CancellationToken>,
    _over: DropGuard,
}

impl<Lane: Ord> Default for Turns<Lane> {
    fn default() -> Turns<Lane> {
        Turns(BTreeMap::new())
    }
}

impl<Lane: Ord> Turns<Lane> {
    /// The next place in the lane, behind all others; to be taken in the order that is to be kept, before anything is awaited.
    pub fn take(&mut self, lane: Lane) -> Turn {
        self.place(lane, Vec::new(), true)
    }

    /// The place of a body of alerts. Nobody else may take places meanwhile.
    pub async fn take_alerts(&mut self, app: &App, lane: Lane, source: &SourceId, body: &Bytes) -> Turn {
        let Named { names, is_first } = named(source, body);
        let of_its_name = |place: &Place| place.names.iter().any(|name| names.contains(name));
        let under_way =
            self.0.get(&lane).is_some_and(|places| places.iter().filter(|place| place.is_under_way()).any(of_its_name));
        let begins = match &names[..] {
            [name] if is_first && !under_way => is_new(app, source, name).await,
            _ => false,
        };
        self.place(lane, names, !begins)
    }

    fn place(&mut self, lane: Lane, names: Vec<String>, waits: bool) -> Turn {
        if self.0.len() >= LOOKED_THROUGH {
            self.0.retain(|_, places| places.iter().any(Place::is_under_way));
        }
        let places = self.0.entry(lane).or_default();
        if places.len() >= LOOKED_THROUGH || !places.iter().any(Place::is_under_way) {
            places.retain(Place::is_under_way);
        }
        let over = CancellationToken::new();
        let from = places.iter().rposition(|place| place.waits).unwrap_or(0);
        let before = if waits { places[from..].iter().map(|place| place.over.clone()).collect() } else { Vec::new() };
        places.push(Place { names, waits, over: over.clone() });
        Turn { before, _over: over.drop_guard() }
    }
}

impl Place {
    fn is_under_way(&self) -> bool {
        !self.over.is_cancelled()
    }
}

impl Turn {
    /// Waits until all that it is behind is over.
    pub async fn comes(&mut self) {
        for over in std::mem::take(&mut self.before) {
            over.cancelled().await;
        }
    }
}

/// What a body's alerts are called.
#[derive(Default)]
struct Named {
    names: Vec<String>,
    /// None of them is said to follow another message.
    is_first: bool,
}

fn named(source: &SourceId, body: &Bytes) -> Named {
    let context = Context { source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    let Ok(rows) = Format::ALERT.rows(body, context) else { return Named::default() };
    let alerts = rows.map(|row| row.ok().and_then(|mut draft| draft.alert.take()));
    let Some(alerts) = alerts.collect::<Option<Vec<_>>>() else { return Named::default() };
    Named {
        is_first: alerts.iter().all(|alert| alert.references.is_empty()),
        names: alerts.into_iter().map(|alert| alert.name).collect(),
    }
}

/// No instance has accepted a message of this name, as far as can be told in time: one that may be known is not new.
async fn is_new(app: &App, source: &SourceId, name: &str) -> bool {
    let names = super::names(app);
    matches!(timeout(HEDGE, names.root(source, name)).await, Ok(Ok(None)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lane_keeps_its_order_and_waits_for_no_other() {
        let (mut turns, (tell, mut told)) = (Turns::default(), tokio::sync::mpsc::unbounded_channel());
        let mut works = Vec::new();
        for n in 0..20_u64 {
            let (mut turn, tell) = (turns.take(n % 2), tell.clone());
            works.push(async move {
                turn.comes().await;
                // The earlier ones take longer.
                tokio::time::sleep(std::time::Duration::from_millis(100 - n)).await;
                tell.send(n).unwrap();
            });
        }
        // Polled in the wrong order.
        works.reverse();
        let started = tokio::time::Instant::now();
        join_all(works).await;
        drop(tell);
        let mut done = Vec::new();
        while let Some(n) = told.recv().await {
            done.push(n);
        }
        for lane in 0..2 {
            let of_lane: Vec<u64> = done.iter().copied().filter(|n| n % 2 == lane).collect();
            assert!(of_lane.is_sorted() && of_lane.len() == 10, "{of_lane:?}");
        }
        assert!(started.elapsed() < std::time::Duration::from_millis(1_100), "both lanes at the same time");
    }

    /// Whoever waits comes after all before it, also after those that waited for nobody.
    #[tokio::test(start_paused = true)]
    async fn one_that_passes_waits_for_nobody_and_is_waited_for() {
        let mut turns = Turns::default();
        let first = turns.take(7);
        let mut passing = turns.place(7, vec!["a".into()], false);
        let mut last = turns.take(7);
        passing.comes().await;
        let mut comes = std::pin::pin!(last.comes());
        drop(first);
        assert!(futures::poll!(&mut comes).is_pending(), "the one that passed is under way");
        drop(passing);
        comes.await;
    }
}
