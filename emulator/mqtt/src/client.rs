//! A client of any broker, in MQTT 3.1.1, which every one of them speaks: it subscribes at QoS 1 and acknowledges a message
//! when its user says so, not before. What a message means, when to come back after a failure, and TLS are the user's.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::{SubEntry, SubOpts, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::Socket;

/// From a connection's start to its CONNACK, and from SUBSCRIBE to SUBACK.
const ANSWER: Duration = Duration::from_secs(20);
/// A broker that takes nothing for so long is gone.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// What is kept of one packet. Of a larger message the rest is read and dropped: its broker would send it again for ever, and
/// everything behind it would wait.
const PACKET_BYTES: usize = 512 * 1024;
/// The type of a message's packet.
const PUBLISH: u8 = 3;
/// Bytes of a broker's packets that wait to be taken apart.
const READ_BYTES: usize = 64 * 1024;

/// Who connects, and how.
#[derive(Clone, Debug)]
pub struct Login {
    /// The broker keeps the session under it.
    pub client_id: String,
    /// User name and password.
    pub user: Option<(String, Option<Vec<u8>>)>,
    /// The session ends with the connection, and nothing of an earlier one is resumed.
    pub clean: bool,
    /// The broker is told; pings are the user's.
    pub keep_alive: Duration,
}

/// A message from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Well formed and without wildcards.
    pub topic: String,
    /// Any bytes; of a message that is too large only the first ones.
    pub payload: Bytes,
    /// How long the payload was when it was sent.
    pub sent_bytes: usize,
    /// What `Client::acknowledge` takes; `None` for QoS 0, which nobody acknowledges.
    pub packet_id: Option<u16>,
    /// The broker had kept it for new subscribers: its age is not known.
    pub retained: bool,
    /// It came before and was not acknowledged.
    pub dup: bool,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The broker refused the connection, in its own words.
    #[error("the broker refuses the connection: {0}")]
    Refused(&'static str),
    /// The broker did not grant a subscription.
    #[error("the broker does not grant the subscription to {0}")]
    NotGranted(String),
    /// The connection ended.
    #[error("the broker ended the connection")]
    Closed,
    /// The broker did not answer in time.
    #[error("the broker does not answer")]
    Silent,
    /// What came is no MQTT 3.1.1, or beyond the bounds.
    #[error("{0}")]
    Malformed(String),
    /// The network failed.
    #[error("the connection failed: {0}")]
    Broken(String),
}

/// A connection whose CONNACK has come.
pub struct Client {
    socket: Box<dyn Socket>,
    read: BytesMut,
    /// A message that is too large, and how much of it is still to come and be dropped.
    cut: Option<(Message, usize)>,
    /// Came while an answer was waited for.
    waiting: VecDeque<Message>,
    heard_at: Instant,
    /// The broker resumed an earlier session.
    pub session_present: bool,
}

enum Packet {
    Connack { accepted: bool, session_present: bool, words: &'static str },
    Suback { granted: Vec<bool> },
    Message(Message),
    Pong,
}

/// What stands at the front of the bytes that were read.
enum Front {
    /// Nothing that is complete.
    Part,
    Whole(Packet),
    /// A message that is too large, and how much of it is still to come.
    Cut(Message, usize),
}

impl Client {
    /// Says CONNECT on an open connection, encrypted or not.
    ///
    /// # Errors
    /// What the broker says, or that it says nothing.
    pub async fn connect(
        socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        login: &Login,
    ) -> Result<Client, ClientError> {
        let connect = connect_packet(login).map_err(|e| ClientError::Malformed(format!("CONNECT: {e:?}")))?;
        let mut client = Client {
            socket: Box::new(socket),
            read: BytesMut::with_capacity(READ_BYTES),
            cut: None,
            waiting: VecDeque::new(),
            heard_at: Instant::now(),
            session_present: false,
        };
        client.write(&connect.to_continuous_buffer()).await?;
        match client.answer().await? {
            Packet::Connack { accepted: true, session_present, .. } => client.session_present = session_present,
            Packet::Connack { words, .. } => return Err(ClientError::Refused(words)),
            _ => return Err(ClientError::Malformed("the broker's first packet is no CONNACK".into())),
        }
        Ok(client)
    }

    /// Subscribes at QoS 1.
    ///
    /// # Errors
    /// Names the filter that is not granted.
    pub async fn subscribe(&mut self, filters: &[String]) -> Result<(), ClientError> {
        let at_least_once = SubOpts::new().set_qos(mqtt_protocol_core::mqtt::packet::Qos::AtLeastOnce);
        let entries = filters.iter().map(|filter| SubEntry::new(filter.as_str(), at_least_once));
        let subscribe = entries
            .collect::<Result<Vec<_>, _>>()
            .and_then(|entries| v3_1_1::Subscribe::builder().packet_id(1).entries(entries).build());
        let subscribe = subscribe.map_err(|e| ClientError::Malformed(format!("SUBSCRIBE: {e:?}")))?;
        self.write(&subscribe.to_continuous_buffer()).await?;
        loop {
            match self.answer().await? {
                Packet::Suback { granted } => {
                    let refused = filters.iter().zip(granted).find(|(_, granted)| !granted);
                    return refused.map_or(Ok(()), |(filter, _)| Err(ClientError::NotGranted(filter.clone())));
                }
                // What a resumed session brings does not wait for subscriptions.
                Packet::Message(message) => self.waiting.push_back(message),
                Packet::Connack { .. } | Packet::Pong => {}
            }
        }
    }

    /// The next message. May be dropped half-way: nothing is lost by it.
    ///
    /// # Errors
    /// Why the connection is over.
    pub async fn next(&mut self) -> Result<Message, ClientError> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        loop {
            if let Packet::Message(message) = self.packet().await? {
                return Ok(message);
            }
        }
    }

    /// Tells the broker that a message may be forgotten.
    ///
    /// # Errors
    /// Why the connection is over.
    pub async fn acknowledge(&mut self, packet_id: u16) -> Result<(), ClientError> {
        let puback = v3_1_1::Puback::builder().packet_id(packet_id).build();
        let puback = puback.map_err(|e| ClientError::Malformed(format!("PUBACK: {e:?}")))?;
        self.write(&puback.to_continuous_buffer()).await
    }

    /// Keeps the connection alive.
    ///
    /// # Errors
    /// Why the connection is over.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        self.write(&v3_1_1::Pingreq::new().to_continuous_buffer()).await
    }

    /// When the broker was heard last.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Says DISCONNECT; the session stays at the broker unless it was a clean one.
    pub async fn close(mut self) {
        let _ = self.write(&v3_1_1::Disconnect::new().to_continuous_buffer()).await;
        let _ = timeout(super::LAST_BYTES, self.socket.shutdown()).await;
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        match timeout(WRITE_STALL, self.socket.write_all(bytes)).await {
            Ok(written) => written.map_err(|e| ClientError::Broken(e.to_string())),
            Err(_) => Err(ClientError::Silent),
        }
    }

    async fn answer(&mut self) -> Result<Packet, ClientError> {
        timeout(ANSWER, self.packet()).await.unwrap_or(Err(ClientError::Silent))
    }

    async fn packet(&mut self) -> Result<Packet, ClientError> {
        loop {
            match &mut self.cut {
                Some((_, left)) => {
                    let dropped = self.read.len().min(*left);
                    self.read.advance(dropped);
                    *left -= dropped;
                }
                None => match take(&mut self.read)? {
                    Front::Part => {}
                    Front::Whole(packet) => return Ok(packet),
                    Front::Cut(message, left) => self.cut = Some((message, left)),
                },
            }
            if let Some((message, _)) = self.cut.take_if(|(_, left)| *left == 0) {
                return Ok(Packet::Message(message));
            }
            self.read.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.read).await {
                Ok(0) => return Err(ClientError::Closed),
                Ok(_) => self.heard_at = Instant::now(),
                Err(e) => return Err(ClientError::Broken(e.to_string())),
            }
        }
    }
}

fn connect_packet(login: &Login) -> Result<v3_1_1::Connect, MqttError> {
    let seconds = u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX);
    let mut connect =
        v3_1_1::Connect::builder().client_id(login.client_id.as_str())?.clean_session(login.clean).keep_alive(seconds);
    if let Some((user, password)) = &login.user {
        connect = connect.user_name(user.as_str())?;
        if let Some(password) = password {
            connect = connect.password(password.clone())?;
        }
    }
    connect.build()
}

/// Takes the next packet off the front of `bytes`.
fn take(bytes: &mut BytesMut) -> Result<Front, ClientError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(Front::Part) };
    let (mut length, mut header) = (0_usize, 0);
    loop {
        let Some(&byte) = rest.get(header) else { return Ok(Front::Part) };
        length |= usize::from(byte & 0x7f) << (7 * header);
        header += 1;
        match (byte & 0x80 == 0, header) {
            (true, _) => break,
            (false, 4) => return Err(malformed("a remaining length of more than four bytes")),
            (false, _) => {}
        }
    }
    let whole = 1 + header + length;
    let kept = whole.min(PACKET_BYTES);
    if kept < whole && first >> 4 != PUBLISH {
        return Err(ClientError::Malformed(format!("a packet of {whole} bytes that is no message is at the broker")));
    }
    if bytes.len() < kept {
        return Ok(Front::Part);
    }
    bytes.advance(1 + header);
    let body = bytes.split_to(kept - 1 - header);
    if kept == whole {
        return Ok(Front::Whole(packet(first, &body)?));
    }
    let mut message = publish(first & 0x0f, &body)?;
    message.sent_bytes += whole - kept;
    Ok(Front::Cut(message, whole - kept))
}

fn packet(first: u8, body: &[u8]) -> Result<Packet, ClientError> {
    match (first >> 4, body) {
        (2, [flags, code]) => Ok(Packet::Connack {
            accepted: *code == 0,
            session_present: flags & 1 == 1,
            words: match code {
                1 => "unacceptable protocol version",
                2 => "client id rejected",
                3 => "server unavailable",
                4 => "bad user name or password",
                5 => "not authorized",
                _ => "an unknown return code",
            },
        }),
        (9, [_, _, codes @ ..]) => Ok(Packet::Suback { granted: codes.iter().map(|code| *code <= 2).collect() }),
        (13, []) => Ok(Packet::Pong),
        (PUBLISH, body) => publish(first & 0x0f, body).map(Packet::Message),
        (kind, _) => {
            Err(ClientError::Malformed(format!("the broker sent a packet of type {kind} that is not valid here")))
        }
    }
}

fn publish(flags: u8, body: &[u8]) -> Result<Message, ClientError> {
    let qos = (flags >> 1) & 3;
    if qos > 1 {
        return Err(malformed("the broker sent a message of a quality of service that was not asked for"));
    }
    let mut body = body;
    let cut_off = || malformed("a message is cut off");
    let length = usize::from(body.try_get_u16().map_err(|_| cut_off())?);
    let topic = body.get(..length).ok_or_else(cut_off)?;
    let topic = std::str::from_utf8(topic).map_err(|_| malformed("a topic is not UTF-8"))?.to_owned();
    // How long or deep it is, its broker decides.
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(malformed("a message has a wrong topic: it is empty, or holds a wildcard or U+0000"));
    }
    body.advance(length);
    let packet_id = match qos {
        0 => None,
        _ => Some(body.try_get_u16().map_err(|_| cut_off())?).filter(|id| *id != 0),
    };
    if qos == 1 && packet_id.is_none() {
        return Err(malformed("a message has the packet id 0"));
    }
    let payload = Bytes::copy_from_slice(body);
    let sent_bytes = payload.len();
    Ok(Message { topic, payload, sent_bytes, packet_id, retained: flags & 1 == 1, dup: flags & 8 == 8 })
}

fn malformed(words: &str) -> ClientError {
    ClientError::Malformed(words.to_owned())
}
