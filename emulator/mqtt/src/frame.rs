//! The fixed header of MQTT: cuts whole packets out of the bytes read, and refuses oversized or mislabelled ones before
//! a body is buffered. What a body means is in `decode`.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

/// Why a connection is ended, as a version 5 client is told; a 3.1.1 client sees the connection close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: DisconnectReasonCode,
    pub(super) what: &'static str,
}

pub(super) fn fault(reason: DisconnectReasonCode, what: &'static str) -> Fault {
    Fault { reason, what }
}

/// The kinds of packets a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Unsubscribe,
    Pingreq,
    Disconnect,
}

/// One whole packet. The body is a copy: nothing kept from it pins the read buffer.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) body: Arc<[u8]>,
}

/// Takes the next packet off the front of `bytes`; `None` until it is complete.
pub(super) fn take(bytes: &mut BytesMut, max_packet: usize) -> Result<Option<Frame>, Fault> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let kind = kind(first)?;
    let Some((length, header)) = remaining_length(&bytes[1..])? else { return Ok(None) };
    let whole = 1 + header + length;
    if whole > max_packet {
        return Err(fault(DisconnectReasonCode::PacketTooLarge, "packet above the maximum size"));
    }
    if bytes.len() < whole {
        return Ok(None);
    }
    let body = Arc::from(&bytes[1 + header..whole]);
    bytes.advance(whole);
    Ok(Some(Frame { kind, flags: first & 0x0f, body }))
}

fn kind(first: u8) -> Result<Kind, Fault> {
    let (kind, flags) = match first >> 4 {
        1 => (Kind::Connect, 0),
        3 => return Ok(Kind::Publish),
        4 => (Kind::Puback, 0),
        5 => (Kind::Pubrec, 0),
        6 => (Kind::Pubrel, 0b0010),
        7 => (Kind::Pubcomp, 0),
        8 => (Kind::Subscribe, 0b0010),
        10 => (Kind::Unsubscribe, 0b0010),
        12 => (Kind::Pingreq, 0),
        14 => (Kind::Disconnect, 0),
        0 => return Err(fault(DisconnectReasonCode::MalformedPacket, "packet type 0")),
        _ => {
            return Err(fault(DisconnectReasonCode::ProtocolError, "a packet type that is not expected from a client"));
        }
    };
    if first & 0x0f != flags {
        return Err(fault(DisconnectReasonCode::MalformedPacket, "reserved flags of the fixed header"));
    }
    Ok(kind)
}

/// The remaining length and the bytes it took, `None` while incomplete.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut length = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(fault(DisconnectReasonCode::MalformedPacket, "remaining length of more than four bytes"))
}
