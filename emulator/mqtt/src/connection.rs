//! The loop of one connection: packets in, publishes through the gate, acknowledgements and deliveries out.
//! It decides when to read: not while the window is full, the gate is busy, the client takes nothing, or what its former
//! connection has left behind is not settled. What becomes of a publish is in `publishes`, of the rest in `ending`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::aliases::{OurAliases, TheirAliases};
use super::broker::Attached;
use super::decode::{self, Packet};
use super::encode::{self, Envelope};
use super::frame::{self, Fault, fault};
use super::handshake::{self, Arrival, Peer};
use super::places::Place;
use super::session::Next;
use super::window::Window;
use super::{Shared, Socket};

/// Room made for each read once the first buffer is used up.
const READ_BYTES: usize = 16 * 1024;

/// Runs one client's connection until it has ended, its last publishes are settled and its last will is out.
///
/// `local`: the peer is on this host.
pub(super) async fn run(shared: Arc<Shared>, mut socket: impl Socket, local: bool, stop: CancellationToken) {
    let Some(waiting) = shared.places.arrivals.take() else { return };
    let arrival = tokio::select! {
        () = stop.cancelled() => return,
        () = waiting.must_leave() => return,
        arrival = timeout(shared.limits.handshake, handshake::receive(&shared, &mut socket, local)) => arrival,
    };
    drop(waiting);
    let Ok(Some(Arrival { peer, attached, place, will, inbox, outbox })) = arrival else { return };
    let mut connection = Connection {
        window: Window::new(shared.gate.clone(), shared.limits.clone()),
        their_aliases: TheirAliases::new(),
        our_aliases: OurAliases::new(peer.alias_maximum),
        turn: attached.session.turn.clone().try_lock_owned().ok(),
        shared,
        peer,
        attached,
        place,
        inbox,
        outbox,
    };
    let Err(end) = connection.exchange(&mut socket, &stop).await;
    tracing::debug!(client = %connection.peer.owner.client_id, ?end, "connection ends");
    connection.finish(end, socket, will, &stop).await;
}

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    pub(super) attached: Attached,
    pub(super) place: Place,
    inbox: BytesMut,
    pub(super) outbox: BytesMut,
    pub(super) window: Window,
    pub(super) their_aliases: TheirAliases,
    our_aliases: OurAliases,
    /// `None` while what the session's former connection read is not settled.
    pub(super) turn: Option<OwnedMutexGuard<()>>,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
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
                () = self.place.must_leave() => {
                    return Err(fault(DisconnectReasonCode::ServerBusy, "silent while others want its place").into());
                }
                turn = self.attached.session.turn.clone().lock_owned(), if self.turn.is_none() => self.turn = Some(turn),
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
        self.turn.is_some() && self.window.has_room() && self.outbox.len() < self.shared.limits.outbox_bytes
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
            Packet::Pubrec { packet_id, refused } => {
                let known = session.received(*serial, packet_id, refused);
                if !refused {
                    encode::pubrel(out, version, packet_id, known)?;
                }
            }
            Packet::Pubrel { packet_id } => {
                let known = session.release(packet_id);
                encode::pubcomp(out, version, packet_id, known)?;
            }
            Packet::Pubcomp { packet_id } => session.completed(*serial, packet_id),
            Packet::Subscribe { packet_id, wishes } => {
                self.place.heard();
                let results = self.shared.broker.subscribe(session, wishes);
                encode::suback(out, version, packet_id, &results)?;
            }
            Packet::Unsubscribe { packet_id, targets } => {
                let existed = self.shared.broker.unsubscribe(session, &targets);
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

    /// Adds deliveries to what is to be written, as far as client and buffer take them.
    fn take_deliveries(&mut self) -> Result<(), End> {
        let Attached { session, serial, .. } = &self.attached;
        while self.outbox.len() < self.shared.limits.outbox_bytes {
            match session.next(*serial, self.peer.send_window) {
                Next::Nothing => break,
                Next::Overflowed => {
                    return Err(fault(DisconnectReasonCode::QuotaExceeded, "takes its messages too slowly").into());
                }
                Next::Release { packet_id } => encode::pubrel(&mut self.outbox, self.peer.version, packet_id, true)?,
                Next::Send { packet_id, dup, delivery } => {
                    let (topic, packet_maximum) = (&delivery.message.topic, self.peer.packet_maximum);
                    let naming = self.our_aliases.naming(topic);
                    let envelope = Envelope { packet_id, dup, naming, packet_maximum };
                    let sent = encode::publish(&mut self.outbox, self.peer.version, &delivery, &envelope)?;
                    if sent {
                        self.our_aliases.written(topic, naming);
                    } else if let Some(packet_id) = packet_id {
                        // What is larger than the client takes counts as delivered (5, 3.1.2.11.4).
                        session.undeliverable(*serial, packet_id);
                    }
                }
            }
        }
        Ok(())
    }
}
