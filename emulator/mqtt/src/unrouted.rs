//! Publishes on topics that no rule takes: a mistyped topic would otherwise be acknowledged and vanish in silence. Each
//! is counted, and each client is named in the log once. What its sender is told is decided in `connection`.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::limits::{UNROUTED_CLIENTS, UNROUTED_MEMORY};

/// The clients that were warned of.
#[derive(Default)]
pub(super) struct Unrouted {
    warned: Mutex<Warned>,
}

#[derive(Default)]
struct Warned {
    clients: BTreeSet<String>,
    since: Option<Instant>,
}

impl Unrouted {
    /// Counts a publish that no rule took and only `subscribers` get.
    pub(super) fn note(&self, client_id: &str, topic: &str, subscribers: usize) {
        metrics::counter!("stream_publishes_without_rule_total").increment(1);
        if self.warned.lock().is_first(client_id) {
            tracing::warn!(
                client = client_id,
                topic,
                subscribers,
                "no rule takes this topic: the message went to its subscribers alone and is stored nowhere (said once for each client)"
            );
        }
    }
}

impl Warned {
    /// Whether this client is not known yet. Beyond the bound no further client is named for a while.
    fn is_first(&mut self, client_id: &str) -> bool {
        let age = self.since.map_or(Duration::MAX, |since| since.elapsed());
        if age >= UNROUTED_MEMORY {
            self.clients.clear();
            self.since = Some(Instant::now());
        }
        self.clients.len() < UNROUTED_CLIENTS && self.clients.insert(client_id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_client_is_named_once_and_a_flood_of_clients_only_up_to_the_bound() {
        let mut warned = Warned::default();
        assert!(warned.is_first("a"));
        assert!(!warned.is_first("a"));
        let named = (0..10 * UNROUTED_CLIENTS).filter(|number| warned.is_first(&number.to_string())).count();
        assert_eq!(named, UNROUTED_CLIENTS - 1);
        tokio::time::sleep(UNROUTED_MEMORY).await;
        assert!(warned.is_first("a"), "after a day the operator is told again");
    }
}
