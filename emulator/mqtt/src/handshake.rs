//! From an accepted socket to a session: reads CONNECT, asks the gate, answers CONNACK. What follows is `connection`.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;
use tokio::io::AsyncReadExt;

use super::broker::Attached;
use super::connect::{self, Connect, Refusal, Will};
use super::decode::Version;
use super::encode::{self, Accepted};
use super::limits::SEND_WINDOW;
use super::places::Place;
use super::session::Owner;
use super::{Refused, Shared, Socket, frame, hang_up};

/// Who is at the other end, and what was agreed with it.
pub(super) struct Peer {
    pub(super) version: Version,
    pub(super) owner: Arc<Owner>,
    pub(super) keep_alive: Duration,
    /// Deliveries of QoS 1 and 2 that it takes without acknowledging.
    pub(super) send_window: u16,
    pub(super) packet_maximum: usize,
    /// Topic aliases that it takes.
    pub(super) alias_maximum: u16,
    pub(super) wants_reasons: bool,
}

pub(super) struct Arrival {
    pub(super) peer: Peer,
    pub(super) attached: Attached,
    pub(super) place: Place,
    pub(super) will: Option<Will>,
    /// Bytes read beyond CONNECT.
    pub(super) inbox: BytesMut,
    /// The CONNACK, to be written.
    pub(super) outbox: BytesMut,
}

/// `None` when the client was refused or went away; the socket is then done with.
pub(super) async fn receive(shared: &Shared, socket: &mut impl Socket, local: bool) -> Option<Arrival> {
    let mut inbox = BytesMut::with_capacity(4096);
    let refusal = match read_connect(shared, socket, &mut inbox).await? {
        Ok(connect) => match admit(shared, connect, inbox, local).await {
            Ok(arrival) => return Some(arrival),
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    tracing::debug!(reason = %refusal.reason, "CONNECT refused");
    let mut outbox = BytesMut::new();
    if encode::refuse(&mut outbox, &refusal).is_ok() {
        hang_up(socket, &mut outbox).await;
    }
    None
}

async fn read_connect(
    shared: &Shared,
    socket: &mut impl Socket,
    inbox: &mut BytesMut,
) -> Option<Result<Connect, Refusal>> {
    loop {
        match frame::take(inbox, shared.limits.packet_bytes) {
            Ok(Some(frame)) => return Some(connect::connect(&frame)),
            Ok(None) => {}
            Err(fault) => {
                tracing::debug!(what = fault.what, "closed before CONNECT");
                return None;
            }
        }
        if !matches!(socket.read_buf(inbox).await, Ok(read) if read > 0) {
            return None;
        }
    }
}

async fn admit(shared: &Shared, connect: Connect, inbox: BytesMut, local: bool) -> Result<Arrival, Refusal> {
    let named = connect.client_id.is_empty();
    let client_id = if named { format!("auto-{}", uuid::Uuid::new_v4().simple()) } else { connect.client_id.clone() };
    let refuse = |reason| Refusal { version: Some(connect.version), reason };
    let identity =
        shared.gate.connect(&client_id, connect.user.as_deref(), connect.password.as_deref()).await.map_err(
            |refused| {
                refuse(match refused {
                    Refused::Busy => ConnectReasonCode::ServerBusy,
                    Refused::NotAuthorized => ConnectReasonCode::NotAuthorized,
                    Refused::Invalid(_) => ConnectReasonCode::ClientIdentifierNotValid,
                })
            },
        )?;
    let Some(place) = shared.places.for_client(identity.is_some(), local) else {
        tracing::warn!(client = client_id, "all places for MQTT clients of its kind are taken: refused");
        return Err(refuse(ConnectReasonCode::ServerBusy));
    };
    let longest = shared.limits.keep_alive;
    let keep_alive = if connect.keep_alive.is_zero() { longest } else { connect.keep_alive.min(longest) };
    let owner = Owner { client_id: client_id.as_str().into(), identity };
    let attached = shared.broker.attach(&owner, connect.clean, connect.expiry);
    let accepted = Accepted {
        version: connect.version,
        session_present: attached.present && connect.knows_session_present,
        assigned_id: named.then_some(client_id.as_str()),
        keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
        expiry: attached.session.expiry(),
    };
    let mut outbox = BytesMut::new();
    if encode::connack(&mut outbox, &accepted, &shared.limits).is_err() {
        shared.broker.detach(&attached);
        return Err(refuse(ConnectReasonCode::UnspecifiedError));
    }
    let peer = Peer {
        version: connect.version,
        owner: attached.session.owner.clone(),
        keep_alive,
        send_window: connect.receive_maximum.min(SEND_WINDOW),
        packet_maximum: connect.packet_maximum,
        alias_maximum: connect.alias_maximum,
        wants_reasons: connect.wants_reasons,
    };
    Ok(Arrival { peer, attached, place, will: connect.will, inbox, outbox })
}
