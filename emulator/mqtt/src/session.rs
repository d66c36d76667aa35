//! What one client is owed: messages waiting, messages sent but not acknowledged, and the connection that serves it now;
//! and which of its publishes of QoS 2 it has not released.
//! Subscriptions are in `routes`; nothing here reads or writes sockets.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::inbound::{Fingerprint, Unreleased};
use super::limits::Limits;
use super::message::{Delivery, Qos};
use super::topic::Target;

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
    /// Held by the connection whose publishes are on their way: the next one reads when they are settled, so that one
    /// client's publishes keep their order, and the gate is not asked again about one that it has in hand.
    pub(super) turn: Arc<AsyncMutex<()>>,
    account: Mutex<Account>,
}

/// What the client is owed, and who serves it.
struct Account {
    attachment: Attachment,
    /// How long the session outlives its connection.
    expiry: Duration,
    targets: BTreeSet<Target>,
    waiting: Backlog,
    /// Sent at QoS 1 or 2 and not acknowledged to the end, oldest first.
    in_flight: VecDeque<InFlight>,
    /// How many of `in_flight` this connection has sent: less than all after the client came back.
    sent: usize,
    last_id: u16,
    overflowed: bool,
    unreleased: Unreleased,
}

struct InFlight {
    packet_id: u16,
    step: Step,
}

/// How far the handshake of a delivery has come.
enum Step {
    /// PUBLISH is sent.
    Published(Delivery),
    /// Of QoS 2: the client has it, PUBREL is sent.
    Released,
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
    /// Of QoS 2: the client said that it has the message, and may now forget the packet id.
    Release {
        packet_id: u16,
    },
    Nothing,
    /// The client took its messages too slowly: a message of QoS 1 or 2 found no room.
    Overflowed,
}

impl Session {
    pub(super) fn new(owner: Arc<Owner>) -> Session {
        Session {
            owner,
            wake: Notify::new(),
            turn: Arc::default(),
            account: Mutex::new(Account {
                attachment: Attachment::Away { serial: 0, since: Instant::now() },
                expiry: Duration::ZERO,
                targets: BTreeSet::new(),
                waiting: Backlog::default(),
                in_flight: VecDeque::new(),
                sent: 0,
                last_id: 0,
                overflowed: false,
                unreleased: Unreleased::default(),
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
    pub(super) fn add_target(&self, target: &Target, limits: &Limits) -> Option<bool> {
        let mut account = self.lock();
        if account.targets.contains(target) {
            return Some(false);
        }
        if account.targets.len() >= limits.subscriptions {
            return None;
        }
        Some(account.targets.insert(target.clone()))
    }

    pub(super) fn remove_target(&self, target: &Target) -> bool {
        self.lock().targets.remove(target)
    }

    pub(super) fn take_targets(&self) -> BTreeSet<Target> {
        std::mem::take(&mut self.lock().targets)
    }

    /// Queues a message. Without room a QoS 0 message is dropped; one of QoS 1 or 2 ends the connection of a slow
    /// client, and is dropped for a client that is away: the newest goes, as what came first is owed first.
    pub(super) fn offer(&self, delivery: Delivery, limits: &Limits) {
        let mut account = self.lock();
        let connected = matches!(account.attachment, Attachment::Connected { .. });
        if !connected && delivery.qos == Qos::AtMostOnce {
            return;
        }
        if account.waiting.has_room(&delivery, limits) {
            account.waiting.push(delivery);
        } else if delivery.qos > Qos::AtMostOnce {
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
        if let Some(InFlight { packet_id, step }) = account.in_flight.get(account.sent) {
            if account.sent >= window {
                return Next::Nothing;
            }
            let again = match step {
                Step::Published(delivery) => {
                    Next::Send { packet_id: Some(*packet_id), dup: true, delivery: delivery.clone() }
                }
                Step::Released => Next::Release { packet_id: *packet_id },
            };
            account.sent += 1;
            return again;
        }
        loop {
            let Some(first) = account.waiting.first() else { return Next::Nothing };
            if first.qos > Qos::AtMostOnce && account.in_flight.len() >= window {
                return Next::Nothing;
            }
            let Some(delivery) = account.waiting.pop() else { return Next::Nothing };
            if delivery.message.is_expired() {
                continue;
            }
            let packet_id = (delivery.qos > Qos::AtMostOnce).then(|| account.send_in_flight(delivery.clone()));
            return Next::Send { packet_id, dup: false, delivery };
        }
    }

    /// PUBACK: the client has a message of QoS 1.
    pub(super) fn acknowledged(&self, serial: u64, packet_id: u16) {
        self.lock().settle(
            serial,
            packet_id,
            |step| matches!(step, Step::Published(delivery) if delivery.qos == Qos::AtLeastOnce),
        );
    }

    /// PUBREC: the client has a message of QoS 2, or refuses it. False when there is no such message.
    pub(super) fn received(&self, serial: u64, packet_id: u16, refused: bool) -> bool {
        let mut account = self.lock();
        let of_two = |step: &Step| match step {
            Step::Published(delivery) => delivery.qos == Qos::ExactlyOnce,
            Step::Released => true,
        };
        if refused {
            return account.settle(serial, packet_id, of_two);
        }
        let connected = account.is_connected(serial);
        match account.in_flight.iter_mut().find(|entry| entry.packet_id == packet_id) {
            Some(entry) if connected && of_two(&entry.step) => {
                entry.step = Step::Released;
                true
            }
            _ => false,
        }
    }

    /// PUBCOMP: the packet id is free again.
    pub(super) fn completed(&self, serial: u64, packet_id: u16) {
        self.lock().settle(serial, packet_id, |step| matches!(step, Step::Released));
    }

    /// A message that can never be sent to this client counts as delivered.
    pub(super) fn undeliverable(&self, serial: u64, packet_id: u16) {
        self.lock().settle(serial, packet_id, |_| true);
    }

    /// Whether this publish of QoS 2 was taken before, and its packet id is not released.
    pub(super) fn has_taken(&self, packet_id: u16, fingerprint: Fingerprint) -> bool {
        self.lock().unreleased.holds(packet_id, fingerprint)
    }

    /// Notes a publish of QoS 2 that the gate took.
    pub(super) fn note_taken(&self, packet_id: u16, fingerprint: Fingerprint) {
        self.lock().unreleased.insert(packet_id, fingerprint);
    }

    /// PUBREL. False when the packet id was not held.
    pub(super) fn release(&self, packet_id: u16) -> bool {
        self.lock().unreleased.release(packet_id)
    }

    /// Publishes of QoS 2 taken and not released.
    pub(super) fn unreleased(&self) -> usize {
        self.lock().unreleased.len()
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

    /// Ends the handshake of a delivery that has come so far. False when there is none.
    fn settle(&mut self, serial: u64, packet_id: u16, so_far: impl Fn(&Step) -> bool) -> bool {
        let of_it = |entry: &InFlight| entry.packet_id == packet_id && so_far(&entry.step);
        let Some(at) = self.in_flight.iter().position(of_it).filter(|_| self.is_connected(serial)) else {
            return false;
        };
        self.in_flight.remove(at);
        if at < self.sent {
            self.sent -= 1;
        }
        true
    }

    fn send_in_flight(&mut self, delivery: Delivery) -> u16 {
        // At most SEND_WINDOW ids are in use, so a free one is found within that many steps.
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|entry| entry.packet_id == self.last_id) {
                break;
            }
        }
        self.in_flight.push_back(InFlight { packet_id: self.last_id, step: Step::Published(delivery) });
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
