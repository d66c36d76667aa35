//! From what is to be said to bytes, for 3.1.1 and 5. When to say it is decided in `connection` and `handshake`.

use std::time::Duration;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::packet::prelude::GenericPacketTrait;
use mqtt_protocol_core::mqtt::packet::{
    self, AssignedClientIdentifier, MaximumPacketSize, MessageExpiryInterval, Property, ReasonString, ReceiveMaximum,
    ServerKeepAlive, SessionExpiryInterval, SubscriptionIdentifier, TopicAlias, TopicAliasMaximum, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode, PubcompReasonCode,
    PubrecReasonCode, PubrelReasonCode, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use super::aliases::Naming;
use super::connect::Refusal;
use super::decode::Version;
use super::frame::{Fault, fault};
use super::limits::{Limits, REASON_BYTES, TOPIC_ALIASES};
use super::message::{Delivery, Qos};
use super::window::Reply;

/// What a version 5 CONNACK tells beside success.
pub(super) struct Accepted<'a> {
    pub(super) version: Version,
    pub(super) session_present: bool,
    /// Set when the server named the client.
    pub(super) assigned_id: Option<&'a str>,
    /// Set when it differs from what the client asked for.
    pub(super) keep_alive: Option<Duration>,
    pub(super) expiry: Duration,
}

pub(super) fn connack(out: &mut BytesMut, accepted: &Accepted<'_>, limits: &Limits) -> Result<(), Fault> {
    if accepted.version == Version::V311 {
        let connack = v3_1_1::Connack::builder()
            .session_present(accepted.session_present)
            .return_code(ConnectReturnCode::Accepted)
            .build();
        return put(out, connack);
    }
    let packet = connack_properties(accepted, limits).and_then(|properties| {
        v5_0::Connack::builder()
            .session_present(accepted.session_present)
            .reason_code(ConnectReasonCode::Success)
            .props(properties)
            .build()
    });
    put(out, packet)
}

fn connack_properties(accepted: &Accepted<'_>, limits: &Limits) -> Result<Vec<Property>, MqttError> {
    let mut properties = vec![
        SessionExpiryInterval::new(seconds(accepted.expiry))?.into(),
        ReceiveMaximum::new(limits.window)?.into(),
        MaximumPacketSize::new(u32::try_from(limits.packet_bytes).unwrap_or(u32::MAX))?.into(),
        TopicAliasMaximum::new(TOPIC_ALIASES)?.into(),
    ];
    if let Some(keep_alive) = accepted.keep_alive {
        properties.push(ServerKeepAlive::new(keep_alive.as_secs() as u16)?.into());
    }
    if let Some(id) = accepted.assigned_id {
        properties.push(AssignedClientIdentifier::new(id)?.into());
    }
    Ok(properties)
}

/// Writes the refusal of a CONNECT; nothing where the version has no word for it, then the connection just closes.
pub(super) fn refuse(out: &mut BytesMut, refusal: &Refusal) -> Result<(), Fault> {
    match refusal.version {
        None => Ok(()),
        Some(Version::V5) => {
            put(out, v5_0::Connack::builder().session_present(false).reason_code(refusal.reason).build())
        }
        Some(Version::V311) => {
            let code = match refusal.reason {
                ConnectReasonCode::UnsupportedProtocolVersion => ConnectReturnCode::UnacceptableProtocolVersion,
                ConnectReasonCode::ClientIdentifierNotValid => ConnectReturnCode::IdentifierRejected,
                ConnectReasonCode::ServerBusy => ConnectReturnCode::ServerUnavailable,
                ConnectReasonCode::BadUserNameOrPassword => ConnectReturnCode::BadUserNameOrPassword,
                ConnectReasonCode::NotAuthorized => ConnectReturnCode::NotAuthorized,
                _ => return Ok(()),
            };
            put(out, v3_1_1::Connack::builder().session_present(false).return_code(code).build())
        }
    }
}

/// Whether a publish that was taken reached a rule or a subscriber. Only version 5 can be told that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Somebody,
    Nobody,
}

pub(super) fn puback(out: &mut BytesMut, version: Version, packet_id: u16, reached: Reached) -> Result<(), Fault> {
    match (version, reached) {
        (Version::V311, _) => put(out, v3_1_1::Puback::builder().packet_id(packet_id).build()),
        (Version::V5, Reached::Somebody) => put(out, v5_0::Puback::builder().packet_id(packet_id).build()),
        (Version::V5, Reached::Nobody) => {
            let reason = PubackReasonCode::NoMatchingSubscribers;
            put(out, v5_0::Puback::builder().packet_id(packet_id).reason_code(reason).build())
        }
    }
}

pub(super) fn pubrec(out: &mut BytesMut, version: Version, packet_id: u16, reached: Reached) -> Result<(), Fault> {
    match (version, reached) {
        (Version::V311, _) => put(out, v3_1_1::Pubrec::builder().packet_id(packet_id).build()),
        (Version::V5, Reached::Somebody) => put(out, v5_0::Pubrec::builder().packet_id(packet_id).build()),
        (Version::V5, Reached::Nobody) => {
            let reason = PubrecReasonCode::NoMatchingSubscribers;
            put(out, v5_0::Pubrec::builder().packet_id(packet_id).reason_code(reason).build())
        }
    }
}

/// `known`: the packet id belongs to a delivery.
pub(super) fn pubrel(out: &mut BytesMut, version: Version, packet_id: u16, known: bool) -> Result<(), Fault> {
    match version {
        Version::V311 => put(out, v3_1_1::Pubrel::builder().packet_id(packet_id).build()),
        Version::V5 if known => put(out, v5_0::Pubrel::builder().packet_id(packet_id).build()),
        Version::V5 => {
            let reason = PubrelReasonCode::PacketIdentifierNotFound;
            put(out, v5_0::Pubrel::builder().packet_id(packet_id).reason_code(reason).build())
        }
    }
}

/// `known`: the packet id belonged to a publish.
pub(super) fn pubcomp(out: &mut BytesMut, version: Version, packet_id: u16, known: bool) -> Result<(), Fault> {
    match version {
        Version::V311 => put(out, v3_1_1::Pubcomp::builder().packet_id(packet_id).build()),
        Version::V5 if known => put(out, v5_0::Pubcomp::builder().packet_id(packet_id).build()),
        Version::V5 => {
            let reason = PubcompReasonCode::PacketIdentifierNotFound;
            put(out, v5_0::Pubcomp::builder().packet_id(packet_id).reason_code(reason).build())
        }
    }
}

/// Why a publish is not taken, in the words that version 5 has for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Denial {
    Busy,
    NotAuthorized,
    Invalid,
}

/// The negative acknowledgement, which only version 5 has.
pub(super) fn denied(out: &mut BytesMut, reply: Reply, denial: Denial, text: Option<&str>) -> Result<(), Fault> {
    let reason = text
        .map(|text| ReasonString::new(&text[..text.floor_char_boundary(REASON_BYTES)]))
        .transpose()
        .map_err(|_| fault(DisconnectReasonCode::UnspecifiedError, "a reason that cannot be encoded"))?;
    let properties: Vec<Property> = reason.map(Property::from).into_iter().collect();
    match reply {
        Reply::Nothing => Ok(()),
        Reply::Puback(packet_id) => {
            let code = match denial {
                Denial::Busy => PubackReasonCode::QuotaExceeded,
                Denial::NotAuthorized => PubackReasonCode::NotAuthorized,
                Denial::Invalid => PubackReasonCode::PayloadFormatInvalid,
            };
            let builder = v5_0::Puback::builder().packet_id(packet_id).reason_code(code);
            put(out, if properties.is_empty() { builder.build() } else { builder.props(properties).build() })
        }
        Reply::Pubrec(packet_id, _) => {
            let code = match denial {
                Denial::Busy => PubrecReasonCode::QuotaExceeded,
                Denial::NotAuthorized => PubrecReasonCode::NotAuthorized,
                Denial::Invalid => PubrecReasonCode::PayloadFormatInvalid,
            };
            let builder = v5_0::Pubrec::builder().packet_id(packet_id).reason_code(code);
            put(out, if properties.is_empty() { builder.build() } else { builder.props(properties).build() })
        }
    }
}

/// Why a subscription was not made.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotSubscribed {
    NotAuthorized,
    TooMany,
}

pub(super) fn suback(
    out: &mut BytesMut,
    version: Version,
    packet_id: u16,
    results: &[Result<Qos, NotSubscribed>],
) -> Result<(), Fault> {
    match version {
        Version::V311 => {
            let code = |result: &Result<Qos, NotSubscribed>| match result {
                Ok(Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                Ok(Qos::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
                Ok(Qos::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos2,
                Err(_) => SubackReturnCode::Failure,
            };
            let codes = results.iter().map(code).collect();
            put(out, v3_1_1::Suback::builder().packet_id(packet_id).return_codes(codes).build())
        }
        Version::V5 => {
            let code = |result: &Result<Qos, NotSubscribed>| match result {
                Ok(Qos::AtMostOnce) => SubackReasonCode::GrantedQos0,
                Ok(Qos::AtLeastOnce) => SubackReasonCode::GrantedQos1,
                Ok(Qos::ExactlyOnce) => SubackReasonCode::GrantedQos2,
                Err(NotSubscribed::NotAuthorized) => SubackReasonCode::NotAuthorized,
                Err(NotSubscribed::TooMany) => SubackReasonCode::QuotaExceeded,
            };
            let codes = results.iter().map(code).collect();
            put(out, v5_0::Suback::builder().packet_id(packet_id).reason_codes(codes).build())
        }
    }
}

pub(super) fn unsuback(out: &mut BytesMut, version: Version, packet_id: u16, existed: &[bool]) -> Result<(), Fault> {
    match version {
        Version::V311 => put(out, v3_1_1::Unsuback::builder().packet_id(packet_id).build()),
        Version::V5 => {
            let code = |existed: &bool| {
                if *existed { UnsubackReasonCode::Success } else { UnsubackReasonCode::NoSubscriptionExisted }
            };
            let codes = existed.iter().map(code).collect();
            put(out, v5_0::Unsuback::builder().packet_id(packet_id).reason_codes(codes).build())
        }
    }
}

pub(super) fn pingresp(out: &mut BytesMut, version: Version) -> Result<(), Fault> {
    match version {
        Version::V311 => put(out, v3_1_1::Pingresp::builder().build()),
        Version::V5 => put(out, v5_0::Pingresp::builder().build()),
    }
}

/// Only version 5 has a DISCONNECT from the server.
pub(super) fn disconnect(out: &mut BytesMut, reason: DisconnectReasonCode) -> Result<(), Fault> {
    put(out, v5_0::Disconnect::builder().reason_code(reason).build())
}

/// How a delivery is written.
pub(super) struct Envelope {
    pub(super) packet_id: Option<u16>,
    pub(super) dup: bool,
    pub(super) naming: Naming,
    /// What the client takes at most.
    pub(super) packet_maximum: usize,
}

/// Writes a delivery unless it is larger than the client takes; tells whether it did.
pub(super) fn publish(
    out: &mut BytesMut,
    version: Version,
    delivery: &Delivery,
    envelope: &Envelope,
) -> Result<bool, Fault> {
    let message = &delivery.message;
    let qos = packet::Qos::from(delivery.qos);
    match version {
        Version::V311 => {
            let packet = v3_1_1::Publish::builder().topic_name(&*message.topic).and_then(|builder| {
                let builder = builder.qos(qos).retain(delivery.retain).dup(envelope.dup).payload(&message.payload[..]);
                match envelope.packet_id {
                    Some(id) => builder.packet_id(id).build(),
                    None => builder.build(),
                }
            });
            put_within(out, packet, envelope.packet_maximum)
        }
        Version::V5 => {
            let unspoken = |_| fault(DisconnectReasonCode::UnspecifiedError, "a property that cannot be encoded");
            let mut properties = message.properties.clone();
            if let Some(left) = message.expires_in() {
                properties.push(MessageExpiryInterval::new(seconds(left)).map_err(unspoken)?.into());
            }
            for identifier in &delivery.identifiers {
                properties.push(SubscriptionIdentifier::new(*identifier).map_err(unspoken)?.into());
            }
            let (topic, alias) = match envelope.naming {
                Naming::Topic => (&*message.topic, None),
                Naming::Introduced(alias) => (&*message.topic, Some(alias)),
                Naming::Alias(alias) => ("", Some(alias)),
            };
            if let Some(alias) = alias {
                properties.push(TopicAlias::new(alias).map_err(unspoken)?.into());
            }
            let packet = v5_0::Publish::builder().topic_name(topic).and_then(|builder| {
                let builder = builder.qos(qos).retain(delivery.retain).dup(envelope.dup).payload(&message.payload[..]);
                let builder = builder.props(properties);
                match envelope.packet_id {
                    Some(id) => builder.packet_id(id).build(),
                    None => builder.build(),
                }
            });
            put_within(out, packet, envelope.packet_maximum)
        }
    }
}

/// Whole seconds, for fields where the largest value means "for ever".
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn put<P: GenericPacketTrait>(out: &mut BytesMut, packet: Result<P, MqttError>) -> Result<(), Fault> {
    put_within(out, packet, usize::MAX).map(|_| ())
}

fn put_within<P: GenericPacketTrait>(
    out: &mut BytesMut,
    packet: Result<P, MqttError>,
    maximum: usize,
) -> Result<bool, Fault> {
    let packet =
        packet.map_err(|_| fault(DisconnectReasonCode::UnspecifiedError, "an answer that cannot be encoded"))?;
    let fits = packet.size() <= maximum;
    if fits {
        out.extend_from_slice(&packet.to_continuous_buffer());
    }
    Ok(fits)
}
