//! Sessions, subscriptions and retained messages, all in memory: who gets what. A restart forgets them; what was
//! acknowledged to a publisher is durable elsewhere, behind the gate. No socket and no packet is known here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::limits::Limits;
use super::message::{Delivery, Message, Qos};
use super::routes::{Routes, Subscription};
use super::session::Session;
use super::topic::{Filter, matches};

pub(super) struct Broker {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<Arc<str>, Arc<Session>>,
    routes: Routes,
    retained: BTreeMap<Arc<str>, Arc<Message>>,
    last_serial: u64,
}

/// A connection's hold on its session.
pub(super) struct Attached {
    pub(super) session: Arc<Session>,
    /// Names the connection: calls with an older one than the session's are without effect.
    pub(super) serial: u64,
    /// The session existed before.
    pub(super) present: bool,
    /// Cancelled when another connection takes over.
    pub(super) kicked: CancellationToken,
}

/// What a client asks for in SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) filter: Filter,
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retained: RetainedWish,
}

/// Version 5 retain handling; 3.1.1 always wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainedWish {
    Always,
    IfNew,
    Never,
}

impl Broker {
    pub(super) fn new(limits: Limits) -> Broker {
        Broker { limits, state: Mutex::default() }
    }

    /// Finds or makes the client's session and gives it to a new connection.
    pub(super) fn attach(&self, client_id: &str, clean: bool, expiry: Duration) -> Attached {
        let mut state = self.lock();
        state.sweep();
        if let Some(former) = state.sessions.get(client_id).filter(|former| clean || former.is_over()).cloned() {
            former.dismiss();
            state.discard(&former);
        }
        let present = state.sessions.contains_key(client_id);
        let session = match state.sessions.get(client_id) {
            Some(session) => session.clone(),
            None => {
                let session = Arc::new(Session::new(client_id));
                state.sessions.insert(session.client_id.clone(), session.clone());
                session
            }
        };
        state.last_serial += 1;
        let serial = state.last_serial;
        let kicked = session.attach(serial, expiry.min(self.limits.session_expiry));
        Attached { session, serial, present, kicked }
    }

    /// Ends a connection's hold; the session goes too unless it is to outlive it.
    pub(super) fn detach(&self, attached: &Attached) {
        let mut state = self.lock();
        if !attached.session.detach(attached.serial) {
            return;
        }
        if attached.session.is_over() {
            state.discard(&attached.session);
        }
        state.keep_within(self.limits.sessions);
    }

    /// Hands a message to every subscriber, and keeps it when it is to be retained. `origin` is the publishing client.
    pub(super) fn publish(&self, origin: Option<&str>, message: Message) {
        let mut state = self.lock();
        let message = Arc::new(message);
        if message.retain {
            state.retain(&message, &self.limits);
        }
        let mut deliveries: BTreeMap<&str, (&Arc<Session>, Delivery)> = BTreeMap::new();
        state.routes.covering(&message.topic, &mut |subscription| {
            let client_id: &str = &subscription.session.client_id;
            if subscription.no_local && origin == Some(client_id) {
                return;
            }
            let qos = subscription.qos.min(message.qos);
            let retain = subscription.retain_as_published && message.retain;
            let (_, delivery) = deliveries
                .entry(client_id)
                .or_insert_with(|| (&subscription.session, Delivery { message: message.clone(), qos, retain }));
            delivery.qos = delivery.qos.max(qos);
            delivery.retain |= retain;
        });
        for (session, delivery) in deliveries.into_values() {
            session.offer(delivery, &self.limits);
        }
    }

    /// Subscribes and queues the retained messages asked for. The answer has the granted QoS for each wish, `None` for
    /// those beyond the bound.
    pub(super) fn subscribe(&self, session: &Arc<Session>, wishes: Vec<Wish>) -> Vec<Option<Qos>> {
        let mut state = self.lock();
        // A connection that has been replaced may not leave routes to a session that is no longer known.
        let known = state.sessions.get(&session.client_id).is_some_and(|current| Arc::ptr_eq(current, session));
        let mut grant = |wish| if known { state.subscribe(session, &wish, &self.limits) } else { None };
        wishes.into_iter().map(&mut grant).collect()
    }

    /// Unsubscribes; tells for each filter whether there was such a subscription.
    pub(super) fn unsubscribe(&self, session: &Arc<Session>, filters: &[Filter]) -> Vec<bool> {
        let mut state = self.lock();
        filters
            .iter()
            .map(|filter| {
                state.routes.remove(filter.as_str(), &session.client_id);
                session.remove_filter(filter.as_str())
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn subscribe(&mut self, session: &Arc<Session>, wish: &Wish, limits: &Limits) -> Option<Qos> {
        let new = session.add_filter(wish.filter.as_str(), limits)?;
        self.routes.insert(
            &wish.filter,
            Subscription {
                session: session.clone(),
                qos: wish.qos,
                no_local: wish.no_local,
                retain_as_published: wish.retain_as_published,
            },
        );
        let wanted = match wish.retained {
            RetainedWish::Always => true,
            RetainedWish::IfNew => new,
            RetainedWish::Never => false,
        };
        if wanted {
            for message in self.retained.values().filter(|message| matches(wish.filter.as_str(), &message.topic)) {
                let qos = wish.qos.min(message.qos);
                session.offer(Delivery { message: message.clone(), qos, retain: true }, limits);
            }
        }
        Some(wish.qos)
    }

    /// An empty payload clears the topic. At the bound a new topic is not retained: its message is still delivered.
    fn retain(&mut self, message: &Arc<Message>, limits: &Limits) {
        self.retained.remove(&message.topic);
        if message.payload.is_empty() {
            return;
        }
        self.retained.retain(|_, kept| !kept.is_expired());
        let bytes: usize = self.retained.values().map(|kept| kept.payload.len()).sum();
        if self.retained.len() >= limits.retained_messages || bytes + message.payload.len() > limits.retained_bytes {
            tracing::warn!(topic = %message.topic, "too many retained messages: this one is delivered but not retained");
            return;
        }
        self.retained.insert(message.topic.clone(), message.clone());
    }

    fn discard(&mut self, session: &Arc<Session>) {
        for filter in session.take_filters() {
            self.routes.remove(&filter, &session.client_id);
        }
        if self.sessions.get(&session.client_id).is_some_and(|current| Arc::ptr_eq(current, session)) {
            self.sessions.remove(&session.client_id);
        }
    }

    /// Forgets the sessions whose clients have been away too long.
    fn sweep(&mut self) {
        let over = |session: &&Arc<Session>| session.away_since().is_some() && session.is_over();
        let gone: Vec<Arc<Session>> = self.sessions.values().filter(over).cloned().collect();
        gone.iter().for_each(|session| self.discard(session));
    }

    fn keep_within(&mut self, bound: usize) {
        let away = |session: &Arc<Session>| session.away_since().map(|since| (since, session.clone()));
        let mut away: Vec<_> = self.sessions.values().filter_map(away).collect();
        let surplus = away.len().saturating_sub(bound);
        away.sort_by_key(|(since, _)| *since);
        for (_, session) in away.into_iter().take(surplus) {
            tracing::warn!(client = %session.client_id, "too many sessions of clients that are away: this one is forgotten");
            self.discard(&session);
        }
    }
}
