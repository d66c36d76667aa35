//! The first packet of a connection: which version of the protocol, who comes, with which last will. MQTT 3.1 is taken for
//! 3.1.1, from which it differs in its name alone as far as an endpoint is concerned. The other packets are in `decode`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{self, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, MqttError};

use super::decode::{Publish, Version, check_strings, expiry};
use super::frame::{Frame, Kind};
use super::limits::CLIENT_ID_BYTES;
use super::topic::check_topic;

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
    /// Version 5: topic aliases that the client takes.
    pub(super) alias_maximum: u16,
    /// Version 5: reason texts are welcome.
    pub(super) wants_reasons: bool,
    /// Not so in MQTT 3.1, where that bit of the CONNACK is reserved.
    pub(super) knows_session_present: bool,
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

/// Reads the first packet of a connection, which tells the protocol version.
pub(super) fn connect(frame: &Frame) -> Result<Connect, Refusal> {
    let old = matches!(&frame.body[..], [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, ..]);
    let body = if old { Cow::Owned(renamed(&frame.body)) } else { Cow::Borrowed(&frame.body[..]) };
    let body = &body[..];
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
    let mut connect = match version {
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
    connect.knows_session_present = !old;
    Ok(connect)
}

/// The CONNECT of MQTT 3.1 under the name and level of 3.1.1.
fn renamed(body: &[u8]) -> Vec<u8> {
    [&b"\0\x04MQTT\x04"[..], body.get(9..).unwrap_or_default()].concat()
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
        alias_maximum: 0,
        wants_reasons: false,
        knows_session_present: true,
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
        alias_maximum: 0,
        wants_reasons: true,
        knows_session_present: true,
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
            Property::TopicAliasMaximum(v) => connect.alias_maximum = v.val(),
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
        qos: qos.into(),
        packet_id: None,
        retain,
        dup: false,
        properties: Vec::new(),
        expiry: None,
    }
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
