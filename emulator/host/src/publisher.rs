//! An MQTT 3.1.1 client that connects and publishes at QoS 1, nothing else: the demo's sensors, and tests that want to see
//! each single PUBACK.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// No answer for so long: the other side is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection. Its calls block.
pub struct Publisher {
    connection: TcpStream,
    packet_id: u16,
}

impl Publisher {
    /// Without a name; returns once the connection is accepted.
    ///
    /// # Errors
    /// When the endpoint is away, or refuses the connection.
    pub fn connect(endpoint: impl ToSocketAddrs, client: &str) -> io::Result<Publisher> {
        Publisher::open(endpoint, 0x02, &[client])
    }

    /// As a connector with its key.
    ///
    /// # Errors
    /// As [`Publisher::connect`].
    pub fn connect_as(endpoint: impl ToSocketAddrs, client: &str, user: &str, key: &str) -> io::Result<Publisher> {
        Publisher::open(endpoint, 0xc2, &[client, user, key])
    }

    fn open(endpoint: impl ToSocketAddrs, flags: u8, texts: &[&str]) -> io::Result<Publisher> {
        let mut connection = TcpStream::connect(endpoint)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_nodelay(true)?;
        let mut body = b"\x00\x04MQTT\x04".to_vec();
        body.extend_from_slice(&[flags, 0, 60]);
        texts.iter().for_each(|part| body.extend_from_slice(&text(part)));
        connection.write_all(&packet(0x10, &body))?;
        let mut answer = [0; 4];
        connection.read_exact(&mut answer)?;
        match answer {
            [0x20, 2, _, 0] => Ok(Publisher { connection, packet_id: 0 }),
            other => Err(io::Error::other(format!("CONNACK {other:?}"))),
        }
    }

    /// Sends one publish and waits for its PUBACK.
    ///
    /// # Errors
    /// When the connection ends before, or another packet comes.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        self.publish_all(topic, std::iter::once(payload.to_vec())).map(|_| ())
    }

    /// Sends all, then reads the PUBACKs in their order; gives how many came before the connection ended.
    ///
    /// # Errors
    /// When none came, or another packet.
    pub fn publish_all(&mut self, topic: &str, payloads: impl Iterator<Item = Vec<u8>>) -> io::Result<usize> {
        let (mut bytes, mut ids) = (Vec::new(), Vec::new());
        for payload in payloads {
            self.packet_id = self.packet_id.wrapping_add(1).max(1);
            ids.push(self.packet_id);
            let body = [&text(topic)[..], &self.packet_id.to_be_bytes(), &payload].concat();
            bytes.extend(packet(0x32, &body));
        }
        self.connection.write_all(&bytes)?;
        for (read, id) in ids.iter().enumerate() {
            let mut answer = [0; 4];
            match self.connection.read_exact(&mut answer) {
                Ok(()) if answer[..2] == [0x40, 2] && answer[2..] == id.to_be_bytes() => {}
                Ok(()) => return Err(io::Error::other(format!("{answer:?} instead of the PUBACK of {id}"))),
                Err(_) if read > 0 => return Ok(read),
                Err(e) => return Err(e),
            }
        }
        Ok(ids.len())
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut length = body.len();
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}
