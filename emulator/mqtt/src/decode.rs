//! From a frame to what a client asks for, the same for 3.1.1 and 5. Parsing is mqtt-protocol-core's; here is every
//! check that it leaves to its user. Only the packets of that crate are used, not its connection: a session must outlive
//! connections, and in 0.7.9 the crate's count of unacknowledged sends goes below zero when a session is resumed.

use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{self, MqttString, Property, RetainHandling, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, MqttError};

use super::broker::{RetainedWish, Wish};
use super::frame::{Fault, Frame, Kind, fault};
use super::message::Qos;
use super::topic::{Target, check_topic};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

#[derive(Debug)]
pub(super) struct Publish {
    /// Empty: the topic is the one that `alias` stands for.
    pub(super) topic: String,
    pub(super) alias: Option<u16>,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) packet_id: Option<u16>,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) properties: Vec<Property>,
    pub(super) expiry: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Packet {
    Publish(Publish),
    Puback {
        packet_id: u16,
    },
    /// `refused`: version 5 clients may say no.
    Pubrec {
        packet_id: u16,
        refused: bool,
    },
    Pubrel {
        packet_id: u16,
    },
    Pubcomp {
        packet_id: u16,
    },
    Subscribe {
        packet_id: u16,
        wishes: Vec<Wish>,
    },
    Unsubscribe {
        packet_id: u16,
        targets: Vec<Target>,
    },
    Pingreq,
    Disconnect {
        with_will: bool,
        expiry: Option<Duration>,
    },
}

/// Reads any packet but CONNECT, which is in `connect`.
pub(super) fn packet(version: Version, frame: &Frame) -> Result<Packet, Fault> {
    let body = &frame.body[..];
    match (frame.kind, version) {
        (Kind::Connect, _) => Err(fault(DisconnectReasonCode::ProtocolError, "a second CONNECT")),
        (Kind::Publish, Version::V311) => publish_v311(frame),
        (Kind::Publish, Version::V5) => publish_v5(frame),
        (Kind::Puback, Version::V311) => Ok(Packet::Puback { packet_id: packet_id_alone(body)? }),
        (Kind::Pubrec, Version::V311) => Ok(Packet::Pubrec { packet_id: packet_id_alone(body)?, refused: false }),
        (Kind::Pubrel, Version::V311) => Ok(Packet::Pubrel { packet_id: packet_id_alone(body)? }),
        (Kind::Pubcomp, Version::V311) => Ok(Packet::Pubcomp { packet_id: packet_id_alone(body)? }),
        (Kind::Puback, Version::V5) => Ok(Packet::Puback { packet_id: whole(body, v5_0::Puback::parse)?.packet_id() }),
        (Kind::Pubrec, Version::V5) => {
            let packet = whole(body, v5_0::Pubrec::parse)?;
            let refused = packet.reason_code().is_some_and(|reason| reason.is_failure());
            Ok(Packet::Pubrec { packet_id: packet.packet_id(), refused })
        }
        (Kind::Pubrel, Version::V5) => Ok(Packet::Pubrel { packet_id: whole(body, v5_0::Pubrel::parse)?.packet_id() }),
        (Kind::Pubcomp, Version::V5) => {
            Ok(Packet::Pubcomp { packet_id: whole(body, v5_0::Pubcomp::parse)?.packet_id() })
        }
        (Kind::Subscribe, Version::V311) => {
            let packet = whole(body, v3_1_1::Subscribe::parse)?;
            if packet.entries().iter().any(|entry| entry.sub_opts().to_buffer()[0] > 2) {
                return Err(fault(DisconnectReasonCode::MalformedPacket, "reserved bits of a requested QoS"));
            }
            subscribe(packet.packet_id(), packet.entries(), None)
        }
        (Kind::Subscribe, Version::V5) => {
            let packet = whole(body, v5_0::Subscribe::parse)?;
            let identifier = packet.props().iter().find_map(|property| match property {
                Property::SubscriptionIdentifier(v) => Some(v.val()),
                _ => None,
            });
            subscribe(packet.packet_id(), packet.entries(), identifier)
        }
        (Kind::Unsubscribe, Version::V311) => {
            let packet = whole(body, v3_1_1::Unsubscribe::parse)?;
            unsubscribe(packet.packet_id(), packet.entries())
        }
        (Kind::Unsubscribe, Version::V5) => {
            let packet = whole(body, v5_0::Unsubscribe::parse)?;
            unsubscribe(packet.packet_id(), packet.entries())
        }
        (Kind::Pingreq, _) if body.is_empty() => Ok(Packet::Pingreq),
        (Kind::Disconnect, Version::V311) if body.is_empty() => {
            Ok(Packet::Disconnect { with_will: false, expiry: None })
        }
        (Kind::Disconnect, Version::V5) => disconnect_v5(body),
        (Kind::Pingreq | Kind::Disconnect, _) => {
            Err(fault(DisconnectReasonCode::MalformedPacket, "a body where none belongs"))
        }
    }
}

fn publish_v311(frame: &Frame) -> Result<Packet, Fault> {
    let (packet, _) = v3_1_1::Publish::parse(frame.flags, frame.body.clone()).map_err(fault_of)?;
    let qos = publish_qos(packet.qos(), packet.dup(), packet.packet_id())?;
    check_topic(packet.topic_name()).map_err(|_| fault(DisconnectReasonCode::TopicNameInvalid, "a malformed topic"))?;
    Ok(Packet::Publish(Publish {
        topic: packet.topic_name().to_owned(),
        alias: None,
        payload: Bytes::copy_from_slice(packet.payload().as_slice()),
        qos,
        packet_id: packet.packet_id(),
        retain: packet.retain(),
        dup: packet.dup(),
        properties: Vec::new(),
        expiry: None,
    }))
}

fn publish_v5(frame: &Frame) -> Result<Packet, Fault> {
    let (packet, _) = v5_0::Publish::parse(frame.flags, frame.body.clone()).map_err(fault_of)?;
    let qos = publish_qos(packet.qos(), packet.dup(), packet.packet_id())?;
    // The crate takes a packet that ends before its property length for one without properties.
    let before_properties = 2 + packet.topic_name().len() + if qos == Qos::AtMostOnce { 0 } else { 2 };
    if frame.body.len() <= before_properties {
        return Err(fault(DisconnectReasonCode::MalformedPacket, "PUBLISH without a property length"));
    }
    let mut publish = Publish {
        topic: packet.topic_name().to_owned(),
        alias: None,
        payload: Bytes::copy_from_slice(packet.payload().as_slice()),
        qos,
        packet_id: packet.packet_id(),
        retain: packet.retain(),
        dup: packet.dup(),
        properties: Vec::new(),
        expiry: None,
    };
    for property in packet.props() {
        match property {
            Property::TopicAlias(v) => publish.alias = Some(v.val()),
            Property::MessageExpiryInterval(v) => publish.expiry = Some(Duration::from_secs(v.val().into())),
            Property::SubscriptionIdentifier(_) => {
                return Err(fault(DisconnectReasonCode::ProtocolError, "a subscription identifier from a client"));
            }
            other => publish.properties.push(other.clone()),
        }
    }
    check_strings(&publish.properties)?;
    // With an alias the topic may be empty; then it was checked when the alias was set.
    if !(publish.topic.is_empty() && publish.alias.is_some()) {
        check_topic(&publish.topic).map_err(|_| fault(DisconnectReasonCode::TopicNameInvalid, "a malformed topic"))?;
    }
    Ok(Packet::Publish(publish))
}

fn publish_qos(qos: packet::Qos, dup: bool, packet_id: Option<u16>) -> Result<Qos, Fault> {
    match qos {
        packet::Qos::AtMostOnce if dup => Err(fault(DisconnectReasonCode::MalformedPacket, "DUP at QoS 0")),
        packet::Qos::AtLeastOnce | packet::Qos::ExactlyOnce if packet_id == Some(0) => {
            Err(fault(DisconnectReasonCode::ProtocolError, "packet id 0"))
        }
        qos => Ok(qos.into()),
    }
}

fn subscribe(packet_id: u16, entries: &[SubEntry], identifier: Option<u32>) -> Result<Packet, Fault> {
    check_packet_id(packet_id)?;
    let mut wishes = Vec::with_capacity(entries.len());
    for entry in entries {
        let (target, options) = (target(entry.topic_filter())?, entry.sub_opts());
        if target.share.is_some() && options.nl() {
            return Err(fault(DisconnectReasonCode::ProtocolError, "a shared subscription without one's own messages"));
        }
        wishes.push(Wish {
            target,
            qos: options.qos().into(),
            no_local: options.nl(),
            retain_as_published: options.rap(),
            retained: match options.rh() {
                RetainHandling::SendRetained => RetainedWish::Always,
                RetainHandling::SendRetainedIfNotExists => RetainedWish::IfNew,
                RetainHandling::DoNotSendRetained => RetainedWish::Never,
            },
            identifier,
        });
    }
    Ok(Packet::Subscribe { packet_id, wishes })
}

fn unsubscribe(packet_id: u16, entries: &[MqttString]) -> Result<Packet, Fault> {
    check_packet_id(packet_id)?;
    let targets = entries.iter().map(|entry| target(entry.as_str())).collect::<Result<_, _>>()?;
    Ok(Packet::Unsubscribe { packet_id, targets })
}

fn disconnect_v5(body: &[u8]) -> Result<Packet, Fault> {
    let packet = whole(body, v5_0::Disconnect::parse)?;
    let expiry = packet.props().iter().flatten().find_map(|property| match property {
        Property::SessionExpiryInterval(v) => Some(expiry(v.val())),
        _ => None,
    });
    // Any reason but a normal end leaves the last will in force.
    let normal = matches!(packet.reason_code(), None | Some(DisconnectReasonCode::NormalDisconnection));
    Ok(Packet::Disconnect { with_will: !normal, expiry })
}

fn target(text: &str) -> Result<Target, Fault> {
    Target::parse(text).map_err(|_| fault(DisconnectReasonCode::TopicFilterInvalid, "a malformed topic filter"))
}

/// The body of the acknowledgements of 3.1.1, to which the crate's parser would allow more.
fn packet_id_alone(body: &[u8]) -> Result<u16, Fault> {
    match *body {
        [high, low] if (high, low) != (0, 0) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(fault(DisconnectReasonCode::MalformedPacket, "an acknowledgement of 3.1.1 is a packet id alone")),
    }
}

fn check_packet_id(packet_id: u16) -> Result<(), Fault> {
    if packet_id == 0 { Err(fault(DisconnectReasonCode::ProtocolError, "packet id 0")) } else { Ok(()) }
}

/// Properties that travel on to subscribers must be ones that a subscriber accepts.
pub(super) fn check_strings(properties: &[Property]) -> Result<(), Fault> {
    for property in properties {
        let bad = match property {
            Property::ContentType(v) => v.val().contains('\0'),
            Property::UserProperty(v) => v.key().contains('\0') || v.val().contains('\0'),
            Property::ResponseTopic(v) => check_topic(v.val()).is_err(),
            _ => false,
        };
        if bad {
            return Err(fault(DisconnectReasonCode::MalformedPacket, "a malformed text in a property"));
        }
    }
    Ok(())
}

/// The largest value stands for "never"; the broker has its own bound.
pub(super) fn expiry(seconds: u32) -> Duration {
    if seconds == u32::MAX { Duration::MAX } else { Duration::from_secs(seconds.into()) }
}

/// Runs a parser that must use the whole body.
fn whole<T>(body: &[u8], parse: impl FnOnce(&[u8]) -> Result<(T, usize), MqttError>) -> Result<T, Fault> {
    let (packet, used) = parse(body).map_err(fault_of)?;
    if used != body.len() {
        return Err(fault(DisconnectReasonCode::MalformedPacket, "bytes after the end of a packet"));
    }
    Ok(packet)
}

fn fault_of(error: MqttError) -> Fault {
    match error {
        MqttError::ProtocolError => fault(DisconnectReasonCode::ProtocolError, "a packet against the protocol"),
        _ => fault(DisconnectReasonCode::MalformedPacket, "a malformed packet"),
    }
}
