//! Which subscriptions cover a topic: a tree of topic levels. Sessions and retained messages are in `broker`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::message::{Delivery, Message, Qos};
use super::session::{Owner, Session};
use super::topic::Target;

/// A client's wish for one filter.
#[derive(Clone)]
pub(super) struct Subscription {
    pub(super) session: Arc<Session>,
    pub(super) qos: Qos,
    /// Version 5: not the client's own messages.
    pub(super) no_local: bool,
    /// Version 5: keep the retain flag as published.
    pub(super) retain_as_published: bool,
    /// Version 5: told with each message.
    pub(super) identifier: Option<u32>,
}

impl Subscription {
    /// The copy of a message that this subscription gets.
    pub(super) fn delivery(&self, message: &Arc<Message>) -> Delivery {
        Delivery {
            message: message.clone(),
            qos: self.qos.min(message.qos),
            retain: self.retain_as_published && message.retain,
            identifiers: self.identifier.into_iter().collect(),
        }
    }
}

/// A subscription that several clients share.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<Arc<Owner>, Subscription>,
    turns: AtomicUsize,
}

impl Group {
    /// Whose turn it is: of those that qualify the connected ones take turns, and when none is, one that is away keeps it.
    pub(super) fn pick(&self, qualifies: impl Fn(&Subscription) -> bool) -> Option<&Subscription> {
        let all: Vec<&Subscription> = self.members.values().filter(|member| qualifies(member)).collect();
        let connected: Vec<&Subscription> =
            all.iter().copied().filter(|member| member.session.away_since().is_none()).collect();
        let of = if connected.is_empty() { all } else { connected };
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        of.get(turn.checked_rem(of.len())?).copied()
    }
}

/// What covers a topic.
pub(super) enum Covering<'a> {
    Client(&'a Subscription),
    Group(&'a Group),
}

/// Depth is bounded by the length of filters (`limits::TOPIC_LEVELS`), so recursion is, too.
#[derive(Default)]
pub(super) struct Routes {
    below: BTreeMap<String, Routes>,
    here: BTreeMap<Arc<Owner>, Subscription>,
    groups: BTreeMap<String, Group>,
}

impl Routes {
    /// Adds a subscription, or replaces the client's former one to the same target.
    pub(super) fn insert(&mut self, target: &Target, subscription: Subscription) {
        let mut node = self;
        for level in target.filter.as_str().split('/') {
            node = node.below.entry(level.to_owned()).or_default();
        }
        let members = match &target.share {
            Some(group) => &mut node.groups.entry(group.clone()).or_default().members,
            None => &mut node.here,
        };
        members.insert(subscription.session.owner.clone(), subscription);
    }

    pub(super) fn remove(&mut self, target: &Target, owner: &Owner) {
        self.remove_below(target.filter.as_str(), target.share.as_deref(), owner);
    }

    fn remove_below(&mut self, filter: &str, share: Option<&str>, owner: &Owner) {
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        let Some(node) = self.below.get_mut(level) else { return };
        match (rest, share) {
            (Some(rest), _) => node.remove_below(rest, share, owner),
            (None, None) => {
                node.here.remove(owner);
            }
            (None, Some(share)) => {
                if let Some(group) = node.groups.get_mut(share) {
                    group.members.remove(owner);
                }
                node.groups.retain(|_, group| !group.members.is_empty());
            }
        }
        if node.below.is_empty() && node.here.is_empty() && node.groups.is_empty() {
            self.below.remove(level);
        }
    }

    /// Calls `found` for each subscription that covers the topic; a client with several such filters is found several
    /// times.
    pub(super) fn covering<'a>(&'a self, topic: &str, found: &mut impl FnMut(Covering<'a>)) {
        if self.below.is_empty() {
            return;
        }
        let levels: Vec<&str> = topic.split('/').collect();
        self.visit(&levels, !topic.starts_with('$'), found);
    }

    /// `wildcards` is false for the first level of the server's own topics (`$…`).
    fn visit<'a>(&'a self, levels: &[&str], wildcards: bool, found: &mut impl FnMut(Covering<'a>)) {
        if wildcards && let Some(rest) = self.below.get("#") {
            rest.tell(found);
        }
        let Some((level, deeper)) = levels.split_first() else {
            self.tell(found);
            return;
        };
        if let Some(node) = self.below.get(*level) {
            node.visit(deeper, true, found);
        }
        if wildcards && let Some(node) = self.below.get("+") {
            node.visit(deeper, true, found);
        }
    }

    fn tell<'a>(&'a self, found: &mut impl FnMut(Covering<'a>)) {
        self.here.values().for_each(|subscription| found(Covering::Client(subscription)));
        self.groups.values().for_each(|group| found(Covering::Group(group)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::topic::matches;
    use super::*;

    fn level(rng: &mut StdRng, levels: &[&str]) -> String {
        levels[rng.random_range(0..levels.len())].to_owned()
    }

    fn path(rng: &mut StdRng, levels: &[&str]) -> String {
        let path = (0..rng.random_range(1..5)).map(|_| level(rng, levels)).collect::<Vec<_>>().join("/");
        if path.is_empty() { "/".to_owned() } else { path }
    }

    #[test]
    fn the_tree_finds_what_matching_every_filter_finds() {
        let mut rng = StdRng::seed_from_u64(11);
        let mut routes = Routes::default();
        let mut model: Vec<(String, Arc<Session>)> = Vec::new();
        for client in 0..300 {
            let mut text = path(&mut rng, &["a", "b", "", "+", "$x"]);
            if rng.random_bool(0.3) {
                text.push_str("/#");
            }
            let owner = Owner { client_id: format!("c{client:03}").into(), identity: None };
            let session = Arc::new(Session::new(Arc::new(owner)));
            let subscription = Subscription {
                session: session.clone(),
                qos: Qos::AtLeastOnce,
                no_local: false,
                retain_as_published: false,
                identifier: None,
            };
            routes.insert(&Target::parse(&text).unwrap(), subscription);
            model.push((text, session));
        }
        for (text, session) in model.split_off(200) {
            routes.remove(&Target::parse(&text).unwrap(), &session.owner);
        }
        let mut total = 0;
        for _ in 0..500 {
            let topic = path(&mut rng, &["a", "b", "", "$x"]);
            let mut found = Vec::new();
            routes.covering(&topic, &mut |covering| match covering {
                Covering::Client(subscription) => found.push(subscription.session.owner.client_id.to_string()),
                Covering::Group(_) => panic!("nobody shares"),
            });
            found.sort();
            let expected: Vec<String> = model
                .iter()
                .filter(|(filter, _)| matches(filter, &topic))
                .map(|(_, session)| session.owner.client_id.to_string())
                .collect();
            assert_eq!(found, expected, "{topic}");
            total += found.len();
        }
        assert!(total > 1000, "the topics are covered often enough to mean something");
        for (text, session) in model {
            routes.remove(&Target::parse(&text).unwrap(), &session.owner);
        }
        assert!(routes.below.is_empty(), "nothing is left behind");
    }
}
