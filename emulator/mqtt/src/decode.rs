//! From a frame to what a client asks for, the same for 3.1.1 and 5. Parsing is mqtt-protocol-core's; here is every
//! check that it leaves to its user. Only the packets of that crate are used, not its connection: a session must outlive
//! connections, and in 0.7.9 the crate's count of unacknowledged sends goes below zero when a session is resumed.

use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{self, MqttString, Property, RetainHandling, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, DisconnectReasonCode, MqttError};

use super::broker::{RetainedWish, Wish};
use super::frame::{Fault, Frame, Kind, fault};
use super::limits::CLIENT_ID_BYTES;
use super::message::Qos;
use super::topic::{Filter, check_topic};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V311,
    V5,
}

#[derive(Debug)]
pub(super) struct Connect {
    pub(super) version: Version,
    /// Empty: the server is to name the client.
    pub(super) client_id: String,
    pub(super) clean: bool,
    /// How long the session is to outlive the connection.
    pub(super) expiry: Duration,
    /// Zero: none asked for.
    pub(super) keep_alive: Duration,
    pub(super) receive_maximum: u16,
    pub(super) packet_maximum: usize,
    /// Version 5: reason texts are welcome.
    pub(super) wants_reasons: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Bytes>,
    pub(super) will: Option<Will>,
}

#[derive(Debug)]
pub(super) struct Will {
    pub(super) publish: Publish,
    pub(super) delay: Duration,
}

/// Why a CONNECT is answered with a refusal. Without a version only the connection closes.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) version: Option<Version>,
    pub(super) reason: ConnectReasonCode,
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
    Puback { packet_id: u16 },
    Subscribe { packet_id: u16, wishes: Vec<Option<Wish>> },
    Unsubscribe { packet_id: u16, filters: Vec<Filter> },
    Pingreq,
    Disconnect { with_will: bool, expiry: Option<Duration> },
}

/// Reads any packet but CONNECT.
pub(super) fn packet(version: Version, frame: &Frame) -> Result<Packet, Fault> {
    let body = &frame.body[..];
    match (frame.kind, version) {
        (Kind::Connect, _) => Err(fault(DisconnectReasonCode::ProtocolError, "a second CONNECT")),
        (Kind::Publish, Version::V311) => publish_v311(frame),
        (Kind::Publish, Version::V5) => publish_v5(frame),
        (Kind::Puback, Version::V311) => {
            let packet = whole(body, v3_1_1::Puback::parse)?;
            if body.len() != 2 {
                return Err(fault(DisconnectReasonCode::MalformedPacket, "PUBACK of 3.1.1 is a packet id alone"));
            }
            Ok(Packet::Puback { packet_id: packet.packet_id() })
        }
        (Kind::Puback, Version::V5) => Ok(Packet::Puback { packet_id: whole(body, v5_0::Puback::parse)?.packet_id() }),
        (Kind::Subscribe, Version::V311) => {
            let packet = whole(body, v3_1_1::Subscribe::parse)?;
            if packet.entries().iter().any(|entry| entry.sub_opts().to_buffer()[0] > 2) {
                return Err(fault(DisconnectReasonCode::MalformedPacket, "reserved bits of a requested QoS"));
            }
            subscribe(packet.packet_id(), packet.entries())
        }
        (Kind::Subscribe, Version::V5) => {
            let packet = whole(body, v5_0::Subscribe::parse)?;
            if packet.props().iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_))) {
                let reason = DisconnectReasonCode::SubscriptionIdentifiersNotSupported;
                return Err(fault(reason, "subscription identifiers are not served"));
            }
            subscribe(packet.packet_id(), packet.entries())
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

/// Reads the first packet of a connection, which tells the protocol version.
pub(super) fn connect(frame: &Frame) -> Result<Connect, Refusal> {
    let body = &frame.body[..];
    let silent = Refusal { version: None, reason: ConnectReasonCode::ProtocolError };
    if frame.kind != Kind::Connect {
        return Err(silent);
    }
    // Name, level and flags: the crate checks the name and level, not the flags.
    let version = match body {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Version::V311,
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Version::V5,
        [0, 4, b'M', b'Q', b'T', b'T', _, ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            // A client of another version can be expected to know the 3.1.1 answer.
            return Err(Refusal {
                version: Some(Version::V311),
                reason: ConnectReasonCode::UnsupportedProtocolVersion,
            });
        }
        _ => return Err(silent),
    };
    let refuse = |reason| Refusal { version: Some(version), reason };
    let flags = body.get(7).copied().unwrap_or(1);
    let (will, will_qos, will_retain) = (flags & 0x04 != 0, (flags >> 3) & 0x03, flags & 0x20 != 0);
    if flags & 0x01 != 0 || will_qos == 3 || (!will && (will_qos != 0 || will_retain)) {
        return Err(refuse(ConnectReasonCode::MalformedPacket));
    }
    if will_qos == 2 {
        return Err(refuse(ConnectReasonCode::QosNotSupported));
    }
    let connect = match version {
        Version::V311 => connect_v311(body),
        Version::V5 => connect_v5(body),
    }
    .map_err(refuse)?;
    if connect.client_id.contains('\0') || connect.client_id.len() > CLIENT_ID_BYTES {
        return Err(refuse(ConnectReasonCode::ClientIdentifierNotValid));
    }
    if version == Version::V311 && connect.client_id.is_empty() && !connect.clean {
        return Err(refuse(ConnectReasonCode::ClientIdentifierNotValid));
    }
    if connect.user.as_ref().is_some_and(|user| user.contains('\0')) {
        return Err(refuse(ConnectReasonCode::BadUserNameOrPassword));
    }
    if connect.will.as_ref().is_some_and(|will| check_topic(&will.publish.topic).is_err()) {
        return Err(refuse(ConnectReasonCode::TopicNameInvalid));
    }
    Ok(connect)
}

fn connect_v311(body: &[u8]) -> Result<Connect, ConnectReasonCode> {
    let packet = whole_connect(body, v3_1_1::Connect::parse)?;
    let will = packet.will_topic().map(|topic| Will {
        publish: will_publish(topic, packet.will_payload(), packet.will_qos(), packet.will_retain()),
        delay: Duration::ZERO,
    });
    Ok(Connect {
        version: Version::V311,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_session(),
        expiry: if packet.clean_session() { Duration::ZERO } else { Duration::MAX },
        keep_alive: Duration::from_secs(packet.keep_alive().into()),
        receive_maximum: u16::MAX,
        packet_maximum: usize::MAX,
        wants_reasons: false,
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(Bytes::copy_from_slice),
        will,
    })
}

fn connect_v5(body: &[u8]) -> Result<Connect, ConnectReasonCode> {
    let packet = whole_connect(body, v5_0::Connect::parse)?;
    let mut connect = Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_start(),
        expiry: Duration::ZERO,
        keep_alive: Duration::from_secs(packet.keep_alive().into()),
        receive_maximum: u16::MAX,
        packet_maximum: usize::MAX,
        wants_reasons: true,
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(Bytes::copy_from_slice),
        will: None,
    };
    for property in packet.props() {
        match property {
            Property::SessionExpiryInterval(v) => connect.expiry = expiry(v.val()),
            Property::ReceiveMaximum(v) if v.val() == 0 => return Err(ConnectReasonCode::ProtocolError),
            Property::ReceiveMaximum(v) => connect.receive_maximum = v.val(),
            Property::MaximumPacketSize(v) if v.val() == 0 => return Err(ConnectReasonCode::ProtocolError),
            Property::MaximumPacketSize(v) => connect.packet_maximum = v.val() as usize,
            Property::RequestProblemInformation(v) => connect.wants_reasons = v.val() != 0,
            Property::AuthenticationMethod(_) => return Err(ConnectReasonCode::BadAuthenticationMethod),
            _ => {}
        }
    }
    if let Some(topic) = packet.will_topic() {
        let mut publish = will_publish(topic, packet.will_payload(), packet.will_qos(), packet.will_retain());
        let mut delay = Duration::ZERO;
        for property in packet.will_props() {
            match property {
                Property::WillDelayInterval(v) => delay = Duration::from_secs(v.val().into()),
                Property::MessageExpiryInterval(v) => publish.expiry = Some(Duration::from_secs(v.val().into())),
                other => publish.properties.push(other.clone()),
            }
        }
        check_strings(&publish.properties).map_err(|_| ConnectReasonCode::MalformedPacket)?;
        connect.will = Some(Will { publish, delay });
    }
    Ok(connect)
}

fn will_publish(topic: &str, payload: Option<&[u8]>, qos: packet::Qos, retain: bool) -> Publish {
    Publish {
        topic: topic.to_owned(),
        alias: None,
        payload: Bytes::copy_from_slice(payload.unwrap_or_default()),
        qos: if qos == packet::Qos::AtMostOnce { Qos::AtMostOnce } else { Qos::AtLeastOnce },
        packet_id: None,
        retain,
        dup: false,
        properties: Vec::new(),
        expiry: None,
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
        packet::Qos::AtMostOnce => Ok(Qos::AtMostOnce),
        packet::Qos::AtLeastOnce if packet_id == Some(0) => {
            Err(fault(DisconnectReasonCode::ProtocolError, "packet id 0"))
        }
        packet::Qos::AtLeastOnce => Ok(Qos::AtLeastOnce),
        packet::Qos::ExactlyOnce => Err(fault(DisconnectReasonCode::QosNotSupported, "QoS 2 is not served")),
    }
}

/// `None` in place of a wish stands for a shared subscription, which is not served.
fn subscribe(packet_id: u16, entries: &[SubEntry]) -> Result<Packet, Fault> {
    check_packet_id(packet_id)?;
    let mut wishes = Vec::with_capacity(entries.len());
    for entry in entries {
        let filter = filter(entry.topic_filter())?;
        let options = entry.sub_opts();
        wishes.push((!entry.topic_filter().starts_with("$share/")).then(|| Wish {
            filter,
            qos: if options.qos() == packet::Qos::AtMostOnce { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            no_local: options.nl(),
            retain_as_published: options.rap(),
            retained: match options.rh() {
                RetainHandling::SendRetained => RetainedWish::Always,
                RetainHandling::SendRetainedIfNotExists => RetainedWish::IfNew,
                RetainHandling::DoNotSendRetained => RetainedWish::Never,
            },
        }));
    }
    Ok(Packet::Subscribe { packet_id, wishes })
}

fn unsubscribe(packet_id: u16, entries: &[MqttString]) -> Result<Packet, Fault> {
    check_packet_id(packet_id)?;
    let filters = entries.iter().map(|entry| filter(entry.as_str())).collect::<Result<_, _>>()?;
    Ok(Packet::Unsubscribe { packet_id, filters })
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

fn filter(text: &str) -> Result<Filter, Fault> {
    Filter::parse(text).map_err(|_| fault(DisconnectReasonCode::TopicFilterInvalid, "a malformed topic filter"))
}

fn check_packet_id(packet_id: u16) -> Result<(), Fault> {
    if packet_id == 0 { Err(fault(DisconnectReasonCode::ProtocolError, "packet id 0")) } else { Ok(()) }
}

/// Properties that travel on to subscribers must be ones that a subscriber accepts.
fn check_strings(properties: &[Property]) -> Result<(), Fault> {
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
fn expiry(seconds: u32) -> Duration {
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

fn whole_connect<T>(
    body: &[u8],
    parse: impl FnOnce(&[u8]) -> Result<(T, usize), MqttError>,
) -> Result<T, ConnectReasonCode> {
    match parse(body) {
        Ok((packet, used)) if used == body.len() => Ok(packet),
        Ok(_) => Err(ConnectReasonCode::MalformedPacket),
        Err(MqttError::ProtocolError) => Err(ConnectReasonCode::ProtocolError),
        Err(MqttError::ClientIdentifierNotValid) => Err(ConnectReasonCode::ClientIdentifierNotValid),
        Err(MqttError::BadUserNameOrPassword) => Err(ConnectReasonCode::BadUserNameOrPassword),
        Err(_) => Err(ConnectReasonCode::MalformedPacket),
    }
}

fn fault_of(error: MqttError) -> Fault {
    match error {
        MqttError::ProtocolError => fault(DisconnectReasonCode::ProtocolError, "a packet against the protocol"),
        _ => fault(DisconnectReasonCode::MalformedPacket, "a malformed packet"),
    }
}
