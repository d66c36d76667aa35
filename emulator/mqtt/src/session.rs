//! What one client is owed: messages waiting, messages sent but not acknowledged, and the connection that serves it now.
//! Subscriptions are in `routes`; nothing here reads or writes sockets.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::limits::Limits;
use super::message::{Delivery, Qos};

/// Whose a session is: a client id alone proves nothing, so the name that the client proved belongs to it [E5].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) client_id: Arc<str>,
    /// `None` for a client without a name.
    pub(super) identity: Option<Identity>,
}

pub(super) struct Session {
    pub(super) owner: Arc<Owner>,
    /// Rung when something is to be sent.
    pub(super) wake: Notify,
    account: Mutex<Account>,
}

/// What the client is owed, and who serves it.
struct Account {
    attachment: Attachment,
    /// How long the session outlives its connection.
    expiry: Duration,
    filters: BTreeSet<String>,
    waiting: Backlog,
    /// Sent at QoS 1 and not acknowledged, oldest first.
    in_flight: VecDeque<(u16, Delivery)>,
    /// How many of `in_flight` this connection has sent: less than all after the client came back.
    sent: usize,
    last_id: u16,
    overflowed: bool,
}

enum Attachment {
    Connected { serial: u64, kick: CancellationToken },
    Away { serial: u64, since: Instant },
}

/// What to do next for the connection that asks.
pub(super) enum Next {
    Send {
        packet_id: Option<u16>,
        dup: bool,
        delivery: Delivery,
    },
    Nothing,
    /// The client took its messages too slowly: a QoS 1 message found no room.
    Overflowed,
}

impl Session {
    pub(super) fn new(owner: Arc<Owner>) -> Session {
        Session {
            owner,
            wake: Notify::new(),
            account: Mutex::new(Account {
                attachment: Attachment::Away { serial: 0, since: Instant::now() },
                expiry: Duration::ZERO,
                filters: BTreeSet::new(),
                waiting: Backlog::default(),
                in_flight: VecDeque::new(),
                sent: 0,
                last_id: 0,
                overflowed: false,
            }),
        }
    }

    /// Gives the session to connection `serial` and tells the one before, if any, to go.
    pub(super) fn attach(&self, serial: u64, expiry: Duration) -> CancellationToken {
        let kick = CancellationToken::new();
        let mut account = self.lock();
        account.dismiss();
        account.attachment = Attachment::Connected { serial, kick: kick.clone() };
        account.expiry = expiry;
        account.sent = 0;
        account.overflowed = false;
        kick
    }

    /// Tells the connection, if any, to go: the session itself is being thrown away.
    pub(super) fn dismiss(&self) {
        self.lock().dismiss();
    }

    /// Ends connection `serial`. False when another connection has taken the session over.
    pub(super) fn detach(&self, serial: u64) -> bool {
        let mut account = self.lock();
        let ours = account.is_connected(serial);
        if ours {
            account.attachment = Attachment::Away { serial, since: Instant::now() };
        }
        ours
    }

    /// Whether no connection came after `serial`.
    pub(super) fn is_away_since(&self, serial: u64) -> bool {
        matches!(self.lock().attachment, Attachment::Away { serial: last, .. } if last == serial)
    }

    pub(super) fn away_since(&self) -> Option<Instant> {
        match self.lock().attachment {
            Attachment::Away { since, .. } => Some(since),
            Attachment::Connected { .. } => None,
        }
    }

    /// Whether the session ends with its connection, or its client has been away too long.
    pub(super) fn is_over(&self) -> bool {
        let account = self.lock();
        match account.attachment {
            Attachment::Connected { .. } => account.expiry.is_zero(),
            Attachment::Away { since, .. } => since.elapsed() >= account.expiry,
        }
    }

    pub(super) fn expiry(&self) -> Duration {
        self.lock().expiry
    }

    pub(super) fn set_expiry(&self, expiry: Duration) {
        self.lock().expiry = expiry;
    }

    /// Notes a subscription. `None` when the session has as many as it may; else whether it is new.
    pub(super) fn add_filter(&self, filter: &str, limits: &Limits) -> Option<bool> {
        let mut account = self.lock();
        if account.filters.contains(filter) {
            return Some(false);
        }
        if account.filters.len() >= limits.subscriptions {
            return None;
        }
        Some(account.filters.insert(filter.to_owned()))
    }

    pub(super) fn remove_filter(&self, filter: &str) -> bool {
        self.lock().filters.remove(filter)
    }

    pub(super) fn take_filters(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().filters)
    }

    /// Queues a message. Without room a QoS 0 message is dropped; a QoS 1 message ends the connection of a slow
    /// client, and is dropped for a client that is away: the newest goes, as what came first is owed first.
    pub(super) fn offer(&self, delivery: Delivery, limits: &Limits) {
        let mut account = self.lock();
        let connected = matches!(account.attachment, Attachment::Connected { .. });
        if !connected && delivery.qos == Qos::AtMostOnce {
            return;
        }
        if account.waiting.has_room(&delivery, limits) {
            account.waiting.push(delivery);
        } else if delivery.qos == Qos::AtLeastOnce {
            tracing::debug!(client = %self.owner.client_id, topic = %delivery.message.topic, connected, "queue full: dropped");
            account.overflowed = connected;
        }
        drop(account);
        if connected {
            self.wake.notify_one();
        }
    }

    /// The next message for connection `serial`, at most `window` of them without acknowledgement.
    pub(super) fn next(&self, serial: u64, window: u16) -> Next {
        let mut account = self.lock();
        if !account.is_connected(serial) {
            return Next::Nothing;
        }
        if account.overflowed {
            return Next::Overflowed;
        }
        let window = usize::from(window);
        if let Some((id, delivery)) = account.in_flight.get(account.sent) {
            if account.sent >= window {
                return Next::Nothing;
            }
            let again = Next::Send { packet_id: Some(*id), dup: true, delivery: delivery.clone() };
            account.sent += 1;
            return again;
        }
        loop {
            let Some(first) = account.waiting.first() else { return Next::Nothing };
            if first.qos == Qos::AtLeastOnce && account.in_flight.len() >= window {
                return Next::Nothing;
            }
            let Some(delivery) = account.waiting.pop() else { return Next::Nothing };
            if delivery.message.is_expired() {
                continue;
            }
            let packet_id = (delivery.qos == Qos::AtLeastOnce).then(|| account.send_in_flight(delivery.clone()));
            return Next::Send { packet_id, dup: false, delivery };
        }
    }

    /// The client has acknowledged a message, or it can never be sent to it.
    pub(super) fn acknowledged(&self, serial: u64, packet_id: u16) {
        let mut account = self.lock();
        if !account.is_connected(serial) {
            return;
        }
        if let Some(at) = account.in_flight.iter().position(|(id, _)| *id == packet_id) {
            account.in_flight.remove(at);
            if at < account.sent {
                account.sent -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock()
    }
}

impl Account {
    fn is_connected(&self, serial: u64) -> bool {
        matches!(self.attachment, Attachment::Connected { serial: current, .. } if current == serial)
    }

    fn dismiss(&self) {
        if let Attachment::Connected { kick, .. } = &self.attachment {
            kick.cancel();
        }
    }

    fn send_in_flight(&mut self, delivery: Delivery) -> u16 {
        // At most SEND_WINDOW ids are in use, so a free one is found within that many steps.
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|(id, _)| *id == self.last_id) {
                break;
            }
        }
        self.in_flight.push_back((self.last_id, delivery));
        self.sent += 1;
        self.last_id
    }
}

/// Messages waiting, bounded by number and by bytes.
#[derive(Default)]
struct Backlog {
    messages: VecDeque<Delivery>,
    bytes: usize,
}

impl Backlog {
    fn has_room(&self, delivery: &Delivery, limits: &Limits) -> bool {
        self.messages.len() < limits.queued_messages
            && self.bytes + delivery.message.payload.len() <= limits.queued_bytes
    }

    fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.payload.len();
        self.messages.push_back(delivery);
    }

    fn first(&self) -> Option<&Delivery> {
        self.messages.front()
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.messages.pop_front()?;
        self.bytes -= delivery.message.payload.len();
        Some(delivery)
    }
}
