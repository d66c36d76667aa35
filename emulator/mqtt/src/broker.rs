//! Sessions, subscriptions and retained messages, all in memory: who gets what. A restart forgets them; what was
//! acknowledged to a publisher is durable elsewhere, behind the gate. No socket and no packet is known here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::encode::NotSubscribed;
use super::limits::Limits;
use super::message::{Delivery, Message, Qos};
use super::routes::{Covering, Routes, Subscription};
use super::session::{Owner, Session};
use super::topic::Target;

pub(super) struct Broker {
    limits: Limits,
    gate: Arc<dyn Gate>,
    registry: Mutex<Registry>,
}

/// Who is known, who subscribed to what, and what is retained.
#[derive(Default)]
struct Registry {
    sessions: BTreeMap<Arc<Owner>, Arc<Session>>,
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
    pub(super) target: Target,
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retained: RetainedWish,
    pub(super) identifier: Option<u32>,
}

/// Version 5 retain handling; 3.1.1 always wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetainedWish {
    Always,
    IfNew,
    Never,
}

impl Broker {
    pub(super) fn new(gate: Arc<dyn Gate>, limits: Limits) -> Broker {
        Broker { limits, gate, registry: Mutex::default() }
    }

    /// Finds or makes the client's session and gives it to a new connection.
    pub(super) fn attach(&self, owner: &Owner, clean: bool, expiry: Duration) -> Attached {
        let mut registry = self.lock();
        registry.sweep();
        if let Some(former) = registry.sessions.get(owner).filter(|former| clean || former.is_over()).cloned() {
            former.dismiss();
            registry.discard(&former);
        }
        let present = registry.sessions.contains_key(owner);
        let session = match registry.sessions.get(owner) {
            Some(session) => session.clone(),
            None => {
                let session = Arc::new(Session::new(Arc::new(owner.clone())));
                registry.sessions.insert(session.owner.clone(), session.clone());
                session
            }
        };
        registry.last_serial += 1;
        let serial = registry.last_serial;
        let kicked = session.attach(serial, expiry.min(self.limits.session_expiry));
        Attached { session, serial, present, kicked }
    }

    /// Ends a connection's hold; the session goes too unless it is to outlive it.
    pub(super) fn detach(&self, attached: &Attached) {
        let mut registry = self.lock();
        if !attached.session.detach(attached.serial) {
            return;
        }
        if attached.session.is_over() {
            registry.discard(&attached.session);
        }
        registry.keep_within(true, self.limits.named_sessions);
        registry.keep_within(false, self.limits.sessions);
    }

    /// Hands a message to every subscriber, and keeps it when it is to be retained. `origin` is the publishing client.
    /// Gives the number of subscribers.
    pub(super) fn publish(&self, origin: Option<&Owner>, message: Message) -> usize {
        let mut registry = self.lock();
        let message = Arc::new(message);
        if message.retain {
            registry.retain(&message, &self.limits);
        }
        let may_have = |subscription: &Subscription| {
            let owner = &*subscription.session.owner;
            !(subscription.no_local && origin == Some(owner))
                && self.gate.may_receive(owner.identity.as_ref(), &message.topic)
        };
        // One copy for a client, however many of its own filters cover the topic, and one for each group that shares.
        let mut own: BTreeMap<&Owner, (&Arc<Session>, Delivery)> = BTreeMap::new();
        let mut shared: Vec<(&Arc<Session>, Delivery)> = Vec::new();
        registry.routes.covering(&message.topic, &mut |covering| match covering {
            Covering::Client(subscription) if may_have(subscription) => {
                let next = subscription.delivery(&message);
                match own.entry(&subscription.session.owner) {
                    Entry::Vacant(vacant) => {
                        vacant.insert((&subscription.session, next));
                    }
                    Entry::Occupied(mut occupied) => {
                        let (_, delivery) = occupied.get_mut();
                        delivery.qos = delivery.qos.max(next.qos);
                        delivery.retain |= next.retain;
                        delivery.identifiers.extend(next.identifiers);
                    }
                }
            }
            Covering::Client(_) => {}
            Covering::Group(group) => {
                let member = group.pick(may_have);
                shared.extend(member.map(|member| (&member.session, member.delivery(&message))));
            }
        });
        let subscribers = own.len() + shared.len();
        for (session, delivery) in own.into_values().chain(shared) {
            session.offer(delivery, &self.limits);
        }
        subscribers
    }

    /// Subscribes and queues the retained messages asked for; gives the granted QoS for each wish.
    pub(super) fn subscribe(&self, session: &Arc<Session>, wishes: Vec<Wish>) -> Vec<Result<Qos, NotSubscribed>> {
        let mut registry = self.lock();
        // A connection that has been replaced may not leave routes to a session that is no longer known.
        let known = registry.sessions.get(&session.owner).is_some_and(|current| Arc::ptr_eq(current, session));
        let mut grant = |wish: Wish| {
            if !self.gate.may_subscribe(session.owner.identity.as_ref(), &wish.target.filter) {
                return Err(NotSubscribed::NotAuthorized);
            }
            if known { registry.subscribe(session, &wish, self) } else { Err(NotSubscribed::TooMany) }
        };
        wishes.into_iter().map(&mut grant).collect()
    }

    /// Unsubscribes; tells for each target whether there was such a subscription.
    pub(super) fn unsubscribe(&self, session: &Arc<Session>, targets: &[Target]) -> Vec<bool> {
        let mut registry = self.lock();
        targets
            .iter()
            .map(|target| {
                registry.routes.remove(target, &session.owner);
                session.remove_target(target)
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }
}

impl Registry {
    fn subscribe(&mut self, session: &Arc<Session>, wish: &Wish, broker: &Broker) -> Result<Qos, NotSubscribed> {
        let new = session.add_target(&wish.target, &broker.limits).ok_or(NotSubscribed::TooMany)?;
        self.routes.insert(
            &wish.target,
            Subscription {
                session: session.clone(),
                qos: wish.qos,
                no_local: wish.no_local,
                retain_as_published: wish.retain_as_published,
                identifier: wish.identifier,
            },
        );
        let wanted = match wish.retained {
            _ if wish.target.share.is_some() => false,
            RetainedWish::Always => true,
            RetainedWish::IfNew => new,
            RetainedWish::Never => false,
        };
        if wanted {
            let identity = session.owner.identity.as_ref();
            let fits = |message: &&Arc<Message>| {
                wish.target.filter.matches(&message.topic) && broker.gate.may_receive(identity, &message.topic)
            };
            for message in self.retained.values().filter(fits) {
                let qos = wish.qos.min(message.qos);
                let identifiers = wish.identifier.into_iter().collect();
                session.offer(Delivery { message: message.clone(), qos, retain: true, identifiers }, &broker.limits);
            }
        }
        Ok(wish.qos)
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
        for target in session.take_targets() {
            self.routes.remove(&target, &session.owner);
        }
        if self.sessions.get(&session.owner).is_some_and(|current| Arc::ptr_eq(current, session)) {
            self.sessions.remove(&session.owner);
        }
    }

    /// Forgets the sessions whose clients have been away too long.
    fn sweep(&mut self) {
        let over = |session: &&Arc<Session>| session.away_since().is_some() && session.is_over();
        let gone: Vec<Arc<Session>> = self.sessions.values().filter(over).cloned().collect();
        gone.iter().for_each(|session| self.discard(session));
    }

    /// Clients without a name never push out the session of one that has a name.
    fn keep_within(&mut self, named: bool, bound: usize) {
        let ours = |session: &&Arc<Session>| session.owner.identity.is_some() == named;
        let away = |session: &Arc<Session>| session.away_since().map(|since| (since, session.clone()));
        let mut away: Vec<_> = self.sessions.values().filter(ours).filter_map(away).collect();
        let surplus = away.len().saturating_sub(bound);
        away.sort_by_key(|(since, _)| *since);
        for (_, session) in away.into_iter().take(surplus) {
            tracing::warn!(client = %session.owner.client_id, "too many sessions of clients that are away: this one is forgotten");
            self.discard(&session);
        }
    }
}
