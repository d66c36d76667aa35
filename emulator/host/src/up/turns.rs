//! Turns for what runs at the same time and must keep the order in which it came [E4]: all of one lane go one after
//! another, lanes do not wait for one another.

use std::collections::BTreeMap;
use std::convert::Infallible;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// Lanes that are looked through for idle ones when there are more.
const LANES: usize = 1_000;

/// By lane, what ends when its last turn is over.
#[derive(Debug)]
pub(crate) struct Turns<Lane>(BTreeMap<Lane, oneshot::Receiver<Infallible>>);

/// A place in a lane. The turn is over when this is dropped.
pub(crate) struct Turn {
    before: Option<oneshot::Receiver<Infallible>>,
    _over: oneshot::Sender<Infallible>,
}

impl<Lane: Ord> Turns<Lane> {
    pub(crate) fn new() -> Turns<Lane> {
        Turns(BTreeMap::new())
    }

    /// The next place in the lane; to be taken in the order that is to be kept, before anything is awaited.
    pub(crate) fn take(&mut self, lane: Lane) -> Turn {
        if self.0.len() >= LANES {
            self.0.retain(|_, last| matches!(last.try_recv(), Err(TryRecvError::Empty)));
        }
        let (over, ends) = oneshot::channel();
        Turn { before: self.0.insert(lane, ends), _over: over }
    }
}

impl Turn {
    /// Waits until all earlier turns of the lane are over.
    pub(crate) async fn comes(&mut self) {
        if let Some(before) = self.before.as_mut() {
            // Its sender is only ever dropped.
            let _ = before.await;
            self.before = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lane_keeps_its_order_and_waits_for_no_other() {
        let (mut turns, (tell, mut told)) = (Turns::new(), tokio::sync::mpsc::unbounded_channel());
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
        // Given up before it came: it holds nobody up.
        let first = turns.take(7);
        let (second, mut third) = (turns.take(7), turns.take(7));
        drop(second);
        drop(first);
        third.comes().await;
    }
}
