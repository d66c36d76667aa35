//! A small MQTT client written by hand for tests: it can send what no real client would.

use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const V311: u8 = 4;
pub(super) const V5: u8 = 5;

/// What CONNECT says.
#[derive(Clone)]
pub(super) struct Hello {
    pub(super) version: u8,
    pub(super) id: String,
    pub(super) clean: bool,
    pub(super) keep_alive: u16,
    /// Version 5, encoded.
    pub(super) properties: Vec<u8>,
    /// Topic, payload, QoS, retain, version 5 properties.
    pub(super) will: Option<(String, String, u8, bool, Vec<u8>)>,
    pub(super) login: Option<(String, String)>,
}

pub(super) fn hello(version: u8, id: &str) -> Hello {
    Hello { version, id: id.to_owned(), clean: true, keep_alive: 0, properties: vec![], will: None, login: None }
}

impl Hello {
    /// Asks for a session that outlives the connection.
    pub(super) fn persistent(mut self) -> Hello {
        self.clean = false;
        self.properties.extend([0x11, 0, 0, 1, 0]);
        self
    }

    pub(super) fn will(mut self, topic: &str, payload: &str) -> Hello {
        self.will = Some((topic.to_owned(), payload.to_owned(), 1, false, vec![]));
        self
    }

    pub(super) fn packet(&self) -> Vec<u8> {
        let mut flags = if self.clean { 0x02 } else { 0 };
        if let Some((_, _, qos, retain, _)) = &self.will {
            flags |= 0x04 | qos << 3 | u8::from(*retain) << 5;
        }
        if self.login.is_some() {
            flags |= 0xc0;
        }
        let mut body = text("MQTT");
        body.extend([self.version, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        let version_5 = self.version == V5;
        if version_5 {
            body.extend(properties(&self.properties));
        }
        body.extend(text(&self.id));
        if let Some((topic, payload, _, _, will_properties)) = &self.will {
            if version_5 {
                body.extend(properties(will_properties));
            }
            body.extend(text(topic));
            body.extend(text(payload));
        }
        if let Some((user, password)) = &self.login {
            body.extend(text(user));
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

/// A packet as it came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) first: u8,
    pub(super) body: Vec<u8>,
}

/// A PUBLISH from the server, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) packet_id: Option<u16>,
    pub(super) properties: Vec<u8>,
}

impl Packet {
    pub(super) fn bytes(&self) -> Vec<u8> {
        packet(self.first, &self.body)
    }

    pub(super) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Return or reason code of CONNACK.
    pub(super) fn code(&self) -> u8 {
        assert_eq!(self.kind(), 2, "CONNACK, not {self:?}");
        self.body[1]
    }

    pub(super) fn session_present(&self) -> bool {
        assert_eq!(self.kind(), 2, "CONNACK, not {self:?}");
        self.body[0] == 1
    }

    /// The packet id of a PUBACK without a failure.
    pub(super) fn acknowledged(&self) -> u16 {
        assert_eq!((self.kind(), self.body.len()), (4, 2), "a positive PUBACK, not {self:?}");
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Reason code of a version 5 DISCONNECT.
    pub(super) fn reason(&self) -> u8 {
        assert_eq!(self.kind(), 14, "DISCONNECT, not {self:?}");
        self.body[0]
    }

    pub(super) fn delivered(&self, version: u8) -> Delivered {
        assert_eq!(self.kind(), 3, "PUBLISH, not {self:?}");
        let mut body = &self.body[..];
        let length = usize::from(body.get_u16());
        let topic = String::from_utf8(body.copy_to_bytes(length).to_vec()).unwrap();
        let qos = (self.first >> 1) & 3;
        let packet_id = (qos > 0).then(|| body.get_u16());
        let mut properties = vec![];
        if version == V5 {
            let length = usize::from(body.get_u8());
            assert!(length < 128, "tests use short properties");
            properties = body.copy_to_bytes(length).to_vec();
        }
        Delivered {
            topic,
            payload: String::from_utf8(body.to_vec()).unwrap(),
            qos,
            retain: self.first & 1 != 0,
            dup: self.first & 8 != 0,
            packet_id,
            properties,
        }
    }
}

pub(super) struct Client<S> {
    pub(super) socket: S,
    version: u8,
    buffer: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(socket: S) -> Client<S> {
        Client { socket, version: V311, buffer: BytesMut::new() }
    }

    pub(super) async fn connect(&mut self, hello: &Hello) -> Packet {
        self.version = hello.version;
        self.send(&hello.packet()).await;
        self.receive().await
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    pub(super) async fn publish(&mut self, topic: &str, payload: &str, packet_id: u16) {
        self.send(&publish(self.version, topic, payload, packet_id)).await;
    }

    /// Subscribes and takes the SUBACK; gives its codes.
    pub(super) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.send(&subscribe(self.version, filters)).await;
        let suback = self.receive().await;
        assert_eq!(suback.kind(), 9, "SUBACK, not {suback:?}");
        suback.body[if self.version == V5 { 3 } else { 2 }..].to_vec()
    }

    pub(super) async fn acknowledge(&mut self, packet_id: u16) {
        let id = packet_id.to_be_bytes();
        self.send(&packet(0x40, &id)).await;
    }

    /// The next packet; panics when the connection is closed or nothing comes.
    pub(super) async fn receive(&mut self) -> Packet {
        self.next().await.expect("the connection is open")
    }

    pub(super) async fn delivery(&mut self) -> Delivered {
        let version = self.version;
        self.receive().await.delivered(version)
    }

    /// The next packet, `None` when the connection is closed.
    pub(super) async fn next(&mut self) -> Option<Packet> {
        tokio::time::timeout(Duration::from_secs(20), self.read()).await.expect("something comes")
    }

    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.whole() {
                return Some(packet);
            }
            if !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(read) if read > 0) {
                return None;
            }
        }
    }

    fn whole(&mut self) -> Option<Packet> {
        let mut length = 0;
        for at in 0..4 {
            let byte = *self.buffer.get(1 + at)?;
            length |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let header = 2 + at;
                if self.buffer.len() < header + length {
                    return None;
                }
                let first = self.buffer[0];
                self.buffer.advance(header);
                return Some(Packet { first, body: self.buffer.split_to(length).to_vec() });
            }
        }
        panic!("a malformed packet from the server")
    }

    /// Under a paused clock: that nothing comes although every task is idle.
    pub(super) async fn expect_nothing(&mut self) {
        if let Ok(packet) = tokio::time::timeout(Duration::from_millis(1), self.read()).await {
            panic!("nothing was due, but {packet:?} came");
        }
    }

    /// Proves that the server has handled all that was sent, and has sent nothing else.
    pub(super) async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.receive().await, Packet { first: 0xd0, body: vec![] });
    }

    /// All that comes until the server closes.
    pub(super) async fn rest(&mut self) -> Vec<Packet> {
        let mut rest = Vec::new();
        while let Some(packet) = self.next().await {
            rest.push(packet);
        }
        rest
    }
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = length > 127;
        packet.push((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut encoded = vec![];
    encoded.put_u16(text.len() as u16);
    encoded.extend(text.as_bytes());
    encoded
}

fn properties(properties: &[u8]) -> Vec<u8> {
    assert!(properties.len() < 128, "tests use short properties");
    let mut encoded = vec![properties.len() as u8];
    encoded.extend(properties);
    encoded
}

/// A PUBLISH at QoS 1, or at QoS 0 with packet id 0.
pub(super) fn publish(version: u8, topic: &str, payload: &str, packet_id: u16) -> Vec<u8> {
    publish_with(version, 0, topic, payload, packet_id, &[])
}

pub(super) fn publish_with(version: u8, flags: u8, topic: &str, payload: &str, packet_id: u16, with: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    let mut first = 0x30 | flags;
    if packet_id > 0 {
        first |= 0x02;
        body.extend(packet_id.to_be_bytes());
    }
    if version == V5 {
        body.extend(properties(with));
    }
    body.extend(payload.as_bytes());
    packet(first, &body)
}

/// A PUBLISH of QoS 2.
pub(super) fn publish_2(version: u8, dup: bool, topic: &str, payload: &str, packet_id: u16) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(packet_id.to_be_bytes());
    if version == V5 {
        body.push(0);
    }
    body.extend(payload.as_bytes());
    packet(0x34 | u8::from(dup) << 3, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a reason.
pub(super) fn step(first: u8, packet_id: u16) -> Packet {
    Packet { first, body: packet_id.to_be_bytes().to_vec() }
}

pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBREL: u8 = 0x62;
pub(super) const PUBCOMP: u8 = 0x70;

pub(super) fn subscribe(version: u8, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0, 77];
    if version == V5 {
        body.push(0);
    }
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(super) fn unsubscribe(version: u8, filters: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 78];
    if version == V5 {
        body.push(0);
    }
    filters.iter().for_each(|filter| body.extend(text(filter)));
    packet(0xa2, &body)
}
