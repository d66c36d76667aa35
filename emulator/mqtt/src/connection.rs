//! The loop of one connection: packets in, publishes through the gate, acknowledgements and deliveries out.
//! It decides when to read: not while the window is full, the gate is busy or the client takes nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, PubackReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::broker::Attached;
use super::decode::{self, Packet, Version, Will};
use super::encode::{self, NotSubscribed, Reached};
use super::frame::{self, Fault, fault};
use super::handshake::{self, Arrival, Peer};
use super::limits::TOPIC_ALIASES;
use super::message::Message;
use super::session::Next;
use super::window::{Settled, Window, offer};
use super::{Publish, Refused, Shared, Socket, Taken, hang_up};

/// Room made for each read once the first buffer is used up.
const READ_BYTES: usize = 16 * 1024;

/// Runs one client's connection until it has ended, its last publishes are settled and its last will is out.
pub(super) async fn run(shared: Arc<Shared>, mut socket: impl Socket, stop: CancellationToken) {
    let arrival = tokio::select! {
        () = stop.cancelled() => return,
        arrival = timeout(shared.limits.handshake, handshake::receive(&shared, &mut socket)) => arrival,
    };
    let Ok(Some(Arrival { peer, attached, will, inbox, outbox })) = arrival else { return };
    let window = Window::new(shared.gate.clone(), shared.limits.clone());
    let aliases = vec![None; usize::from(TOPIC_ALIASES)];
    let mut connection = Connection { shared, peer, attached, inbox, outbox, window, aliases };
    let Err(end) = connection.exchange(&mut socket, &stop).await;
    tracing::debug!(client = %connection.peer.owner.client_id, ?end, "connection ends");
    connection.finish(end, socket, will, &stop).await;
}

struct Connection {
    shared: Arc<Shared>,
    peer: Peer,
    attached: Attached,
    inbox: BytesMut,
    outbox: BytesMut,
    window: Window,
    /// What the client's topic aliases stand for.
    aliases: Vec<Option<String>>,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client said so.
    Farewell {
        with_will: bool,
    },
    /// The socket is closed, broken or stuck.
    Lost,
    /// We end it, and tell why.
    Fault(Fault),
    Stopping,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> End {
        End::Lost
    }
}

impl Connection {
    async fn exchange(&mut self, socket: &mut impl Socket, stop: &CancellationToken) -> Result<Infallible, End> {
        let (mut reader, mut writer) = tokio::io::split(socket);
        let grace = self.peer.keep_alive * 3 / 2;
        let stall = self.shared.limits.write_stall;
        let mut last_heard = Instant::now();
        let mut last_written = Instant::now();
        let mut was_reading = true;
        let alarm = sleep_until(last_heard + grace.min(stall));
        tokio::pin!(alarm);
        loop {
            self.take_packets()?;
            self.take_deliveries()?;
            let reading = self.may_read();
            // Silence counts against the client only while we listen.
            if !reading || !was_reading {
                last_heard = Instant::now();
            }
            was_reading = reading;
            if self.outbox.is_empty() {
                last_written = Instant::now();
            }
            // Unbiased on purpose: a steady flow in one direction must not starve the other.
            tokio::select! {
                () = stop.cancelled() => return Err(End::Stopping),
                () = self.attached.kicked.cancelled() => {
                    return Err(fault(DisconnectReasonCode::SessionTakenOver, "taken over by a new connection").into());
                }
                settled = self.window.settled() => self.answer(settled)?,
                written = writer.write_buf(&mut self.outbox), if !self.outbox.is_empty() => {
                    if written? == 0 {
                        return Err(End::Lost);
                    }
                    last_written = Instant::now();
                }
                read = reader.read_buf(&mut self.inbox), if reading => {
                    if read? == 0 {
                        return Err(End::Lost);
                    }
                    last_heard = Instant::now();
                }
                () = self.attached.session.wake.notified() => {}
                () = &mut alarm => {
                    let now = Instant::now();
                    if reading && now >= last_heard + grace {
                        return Err(fault(DisconnectReasonCode::KeepAliveTimeout, "silent beyond its keep-alive").into());
                    }
                    if now >= last_written + stall && !self.outbox.is_empty() {
                        return Err(End::Lost);
                    }
                    let heard_by = if reading { last_heard + grace } else { now + grace };
                    let written_by = if self.outbox.is_empty() { now + stall } else { last_written + stall };
                    alarm.as_mut().reset(heard_by.min(written_by));
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.window.has_room() && self.outbox.len() < self.shared.limits.outbox_bytes
    }

    /// Handles what was read, as far as the window lets it in.
    fn take_packets(&mut self) -> Result<(), End> {
        while self.may_read() {
            let Some(frame) = frame::take(&mut self.inbox, self.shared.limits.packet_bytes)? else { break };
            self.handle(decode::packet(self.peer.version, &frame)?)?;
        }
        if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 8 {
            self.inbox.reserve(READ_BYTES);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) -> Result<(), End> {
        let Attached { session, serial, .. } = &self.attached;
        let (out, version) = (&mut self.outbox, self.peer.version);
        match packet {
            Packet::Publish(publish) => self.let_in(publish)?,
            Packet::Puback { packet_id } => session.acknowledged(*serial, packet_id),
            Packet::Subscribe { packet_id, wishes } => {
                let shared_ones: Vec<bool> = wishes.iter().map(Option::is_none).collect();
                let mut granted =
                    self.shared.broker.subscribe(session, wishes.into_iter().flatten().collect()).into_iter();
                let results: Vec<_> = shared_ones
                    .into_iter()
                    .map(|shared| {
                        if shared {
                            Err(NotSubscribed::Shared)
                        } else {
                            granted.next().unwrap_or(Err(NotSubscribed::TooMany))
                        }
                    })
                    .collect();
                encode::suback(out, version, packet_id, &results)?;
            }
            Packet::Unsubscribe { packet_id, filters } => {
                let existed = self.shared.broker.unsubscribe(session, &filters);
                encode::unsuback(out, version, packet_id, &existed)?;
            }
            Packet::Pingreq => encode::pingresp(out, version)?,
            Packet::Disconnect { with_will, expiry } => {
                if let Some(expiry) = expiry {
                    if session.expiry().is_zero() && !expiry.is_zero() {
                        let what = "a session that ends with its connection cannot be kept";
                        return Err(fault(DisconnectReasonCode::ProtocolError, what).into());
                    }
                    session.set_expiry(expiry.min(self.shared.limits.session_expiry));
                }
                return Err(End::Farewell { with_will });
            }
        }
        Ok(())
    }

    /// Puts a publish into the window.
    fn let_in(&mut self, mut publish: decode::Publish) -> Result<(), End> {
        if let Some(alias) = publish.alias {
            let invalid = fault(DisconnectReasonCode::TopicAliasInvalid, "an unknown topic alias");
            let slot = usize::from(alias).checked_sub(1).and_then(|at| self.aliases.get_mut(at)).ok_or(invalid)?;
            if publish.topic.is_empty() {
                publish.topic = slot.clone().ok_or(invalid)?;
            } else {
                *slot = Some(publish.topic.clone());
            }
        }
        let packet_id = publish.packet_id;
        let (publish, message) = self.prepare(publish);
        self.window.push(publish, packet_id, message);
        Ok(())
    }

    /// What the gate sees of a publish, and what subscribers get of it.
    fn prepare(&self, publish: decode::Publish) -> (Publish, Message) {
        let message = Message {
            topic: publish.topic.as_str().into(),
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: publish.expiry.map(|after| Instant::now() + after),
        };
        let publish = Publish {
            topic: publish.topic,
            payload: publish.payload,
            client_id: self.peer.owner.client_id.to_string(),
            identity: self.peer.owner.identity.clone(),
            qos: publish.qos.into(),
            retain: publish.retain,
            dup: publish.dup,
        };
        (publish, message)
    }

    /// Answers the oldest publish, and those after it that are settled already.
    fn answer(&mut self, oldest: Settled) -> Result<(), Fault> {
        let mut next = Some(oldest);
        while let Some(settled) = next {
            let packet_id = settled.packet_id;
            match self.spread(settled) {
                Ok(reached) => {
                    if let Some(packet_id) = packet_id {
                        encode::puback(&mut self.outbox, self.peer.version, packet_id, reached)?;
                    }
                }
                Err(refused) => self.answer_refused(packet_id, &refused)?,
            }
            next = self.window.settled_now();
        }
        Ok(())
    }

    /// Hands a message on to subscribers, once the gate has said yes. Tells whether it reached anybody.
    fn spread(&self, settled: Settled) -> Result<Reached, Refused> {
        let taken = settled.answer?;
        if taken == Taken::Withheld {
            return Ok(Reached::Somebody);
        }
        let topic = settled.message.topic.clone();
        let subscribers = self.shared.broker.publish(Some(&self.peer.owner), settled.message);
        if taken == Taken::Stored {
            return Ok(Reached::Somebody);
        }
        self.shared.unrouted.note(&self.peer.owner.client_id, &topic, subscribers);
        Ok(if subscribers == 0 { Reached::Nobody } else { Reached::Somebody })
    }

    fn answer_refused(&mut self, packet_id: Option<u16>, refused: &Refused) -> Result<(), Fault> {
        tracing::debug!(client = %self.peer.owner.client_id, ?refused, "publish refused");
        let Some(packet_id) = packet_id else { return Ok(()) };
        let (reason, closing) = match refused {
            Refused::Busy => (PubackReasonCode::QuotaExceeded, DisconnectReasonCode::QuotaExceeded),
            Refused::NotAuthorized => (PubackReasonCode::NotAuthorized, DisconnectReasonCode::NotAuthorized),
            Refused::Invalid(_) => (PubackReasonCode::PayloadFormatInvalid, DisconnectReasonCode::PayloadFormatInvalid),
        };
        if self.peer.version == Version::V311 {
            // 3.1.1 has no negative acknowledgement: without one the client keeps its message and sends it again.
            return Err(fault(closing, "publish refused"));
        }
        let text = match refused {
            Refused::Invalid(text) if self.peer.wants_reasons && self.peer.packet_maximum > 512 => Some(text.as_str()),
            _ => None,
        };
        encode::puback_refused(&mut self.outbox, packet_id, reason, text)
    }

    /// Adds deliveries to what is to be written, as far as client and buffer take them.
    fn take_deliveries(&mut self) -> Result<(), End> {
        let Attached { session, serial, .. } = &self.attached;
        while self.outbox.len() < self.shared.limits.outbox_bytes {
            match session.next(*serial, self.peer.send_window) {
                Next::Nothing => break,
                Next::Overflowed => {
                    return Err(fault(DisconnectReasonCode::QuotaExceeded, "takes its messages too slowly").into());
                }
                Next::Send { packet_id, dup, delivery } => {
                    let (version, maximum) = (self.peer.version, self.peer.packet_maximum);
                    let sent = encode::publish(&mut self.outbox, version, &delivery, packet_id, dup, maximum)?;
                    // What is larger than the client takes counts as delivered (5, 3.1.2.11.4).
                    if let (false, Some(packet_id)) = (sent, packet_id) {
                        session.acknowledged(*serial, packet_id);
                    }
                }
            }
        }
        Ok(())
    }

    async fn finish(mut self, end: End, mut socket: impl Socket, will: Option<Will>, stop: &CancellationToken) {
        self.shared.broker.detach(&self.attached);
        let reason = match &end {
            End::Farewell { .. } | End::Lost => None,
            End::Fault(fault) => Some(fault.reason),
            End::Stopping => Some(DisconnectReasonCode::ServerShuttingDown),
        };
        // After a fault nothing more is acknowledged: DISCONNECT is the last packet, and the client sends again.
        let acknowledge = matches!(end, End::Lost | End::Stopping);
        if acknowledge {
            self.settle_rest(stop, true).await;
        }
        if let Some(reason) = reason.filter(|_| self.peer.version == Version::V5)
            && encode::disconnect(&mut self.outbox, reason).is_err()
        {
            self.outbox.clear();
        }
        let mut last = std::mem::take(&mut self.outbox);
        let farewell = async {
            hang_up(&mut socket, &mut last).await;
            drop(socket);
        };
        // The window goes on at once, however long the peer takes for its last bytes.
        let aftermath = async {
            if !acknowledge {
                self.settle_rest(stop, false).await;
            }
            match (end, will) {
                (End::Farewell { with_will: false } | End::Stopping, _) | (_, None) => {}
                (_, Some(will)) => self.send_will(will, stop).await,
            }
        };
        tokio::join!(farewell, aftermath);
    }

    /// Waits until the publishes in the window are settled and spread, for a bounded time: a client may well publish at
    /// QoS 0 and leave at once.
    async fn settle_rest(&mut self, stop: &CancellationToken, acknowledge: bool) {
        let shared = self.shared.clone();
        let enough = shared.patience(stop);
        tokio::pin!(enough);
        let mut acknowledge = acknowledge;
        while !self.window.is_empty() {
            let settled = tokio::select! {
                () = &mut enough => return,
                settled = self.window.settled() => settled,
            };
            if acknowledge {
                acknowledge = self.answer(settled).is_ok();
            } else if let Err(refused) = self.spread(settled) {
                tracing::debug!(client = %self.peer.owner.client_id, ?refused, "publish refused");
            }
        }
    }

    /// Publishes the last will through the gate, unless its client comes back within the will's delay.
    async fn send_will(self, will: Will, stop: &CancellationToken) {
        let Attached { session, serial, .. } = &self.attached;
        let delay = will.delay.min(session.expiry());
        if !delay.is_zero() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(delay) => {}
            }
            if !session.is_away_since(*serial) {
                return;
            }
        }
        let (publish, message) = self.prepare(will.publish);
        let held = AtomicUsize::new(0);
        let answer = tokio::select! {
            () = self.shared.patience(stop) => Err(Refused::Busy),
            answer = offer(&*self.shared.gate, publish, self.shared.limits.drain, &held) => answer,
        };
        let settled = Settled { packet_id: None, message, answer };
        if let Err(refused) = self.spread(settled) {
            tracing::warn!(client = %self.peer.owner.client_id, ?refused, "last will not published");
        }
    }
}

impl Shared {
    /// For as long as the gate may take for what a connection has left behind.
    async fn patience(&self, stop: &CancellationToken) {
        let stopped = async {
            stop.cancelled().await;
            sleep(self.limits.stop_grace).await;
        };
        tokio::select! {
            () = sleep(self.limits.drain) => {}
            () = stopped => {}
        }
    }
}
