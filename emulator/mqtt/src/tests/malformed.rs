//! Bytes that no client should send: each closes its connection with the right reason, and nothing else happens.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::AsyncWriteExt;

use super::Bench;
use super::client::{V5, V311, hello, packet, publish, publish_2, publish_with, subscribe, text, unsubscribe};

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const FILTER: u8 = 0x8f;
const TOPIC: u8 = 0x90;
const TOO_LARGE: u8 = 0x95;

#[tokio::test(start_paused = true)]
async fn malformed_packets_close_the_connection_with_their_reason() {
    let long = "x".repeat(1025);
    let deep = "a/".repeat(32);
    for version in [V311, V5] {
        // Where version 5 has a property length, 3.1.1 has nothing.
        let none: &[u8] = if version == V5 { &[0] } else { &[] };
        let publish_to = |topic: &str| publish(version, topic, "x", 1);
        let body = |first: u8, parts: &[&[u8]]| packet(first, &parts.concat());
        let table: Vec<(&str, Vec<u8>, u8)> = vec![
            ("type 0", vec![0, 0], MALFORMED),
            ("type 15 (AUTH)", vec![0xf0, 0], PROTOCOL),
            ("CONNACK from a client", vec![0x20, 2, 0, 0], PROTOCOL),
            ("SUBACK from a client", vec![0x90, 3, 0, 1, 0], PROTOCOL),
            ("second CONNECT", hello(version, "c").packet(), PROTOCOL),
            ("length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f], MALFORMED),
            ("200 MB", vec![0x30, 0xff, 0xff, 0xff, 0x5f], TOO_LARGE),
            ("one byte too large", vec![0x30, 0xfd, 0xff, 0x07], TOO_LARGE),
            ("PUBLISH of QoS 2 with packet id 0", body(0x34, &[&text("a"), &[0, 0], none, b"x"]), PROTOCOL),
            ("PUBREL without its flags", vec![0x60, 2, 0, 1], MALFORMED),
            ("PUBREL with packet id 0", vec![0x62, 2, 0, 0], MALFORMED),
            ("PUBREC cut", vec![0x50, 1, 0], MALFORMED),
            ("a shared subscription without a group", subscribe(version, &[("$share//a", 1)]), MALFORMED),
            ("a wildcard in the name of a group", subscribe(version, &[("$share/+/a", 1)]), MALFORMED),
            ("PUBLISH of QoS 3", body(0x36, &[&text("a"), &[0, 1], none, b"x"]), MALFORMED),
            ("PUBLISH with DUP at QoS 0", body(0x38, &[&text("a"), none]), MALFORMED),
            ("PUBLISH with packet id 0", body(0x32, &[&text("a"), &[0, 0], none]), PROTOCOL),
            ("PUBLISH cut in its packet id", body(0x32, &[&text("a"), &[0]]), MALFORMED),
            ("PUBLISH cut in its topic", body(0x30, &[&[0, 9, b'a']]), MALFORMED),
            ("PUBLISH without a topic", vec![0x30, 0], MALFORMED),
            ("empty topic", publish_to(""), TOPIC),
            ("+ in a topic", publish_to("a/+"), TOPIC),
            ("# in a topic", publish_to("#"), TOPIC),
            ("NUL in a topic", publish_to("a\0b"), TOPIC),
            ("long topic", publish_to(&long), TOPIC),
            ("deep topic", publish_to(&deep), TOPIC),
            ("bad UTF-8 in a topic", body(0x30, &[&[0, 2, 0xff, 0xfe], none]), MALFORMED),
            ("surrogate in a topic", body(0x30, &[&[0, 3, 0xed, 0xa0, 0x80], none]), MALFORMED),
            ("SUBSCRIBE without its flags", body(0x80, &[&[0, 1], none, &text("a"), &[0]]), MALFORMED),
            ("SUBSCRIBE to nothing", body(0x82, &[&[0, 1], none]), PROTOCOL),
            ("SUBSCRIBE with packet id 0", body(0x82, &[&[0, 0], none, &text("a"), &[0]]), PROTOCOL),
            ("SUBSCRIBE to a#b", subscribe(version, &[("a#b", 1)]), FILTER),
            ("SUBSCRIBE to #/a", subscribe(version, &[("#/a", 1)]), FILTER),
            ("SUBSCRIBE to a+", subscribe(version, &[("ok", 1), ("a+", 1)]), FILTER),
            ("SUBSCRIBE to an empty filter", subscribe(version, &[("", 1)]), FILTER),
            ("SUBSCRIBE at QoS 3", subscribe(version, &[("a", 3)]), MALFORMED),
            ("SUBSCRIBE with reserved bits", subscribe(version, &[("a", 0xc1)]), MALFORMED),
            ("SUBSCRIBE cut in its filter", body(0x82, &[&[0, 1], none, &[0, 5, b'a']]), MALFORMED),
            ("UNSUBSCRIBE without its flags", body(0xa0, &[&[0, 1], none, &text("a")]), MALFORMED),
            ("UNSUBSCRIBE from nothing", body(0xa2, &[&[0, 1], none]), PROTOCOL),
            ("UNSUBSCRIBE with packet id 0", body(0xa2, &[&[0, 0], none, &text("a")]), PROTOCOL),
            ("UNSUBSCRIBE from a#b", unsubscribe(version, &["a#b"]), FILTER),
            ("PUBACK with packet id 0", vec![0x40, 2, 0, 0], MALFORMED),
            ("PUBACK cut", vec![0x40, 1, 0], MALFORMED),
            ("PINGREQ with a body", vec![0xc0, 1, 0], MALFORMED),
            ("PINGREQ with flags", vec![0xc1, 0], MALFORMED),
            ("DISCONNECT with flags", vec![0xe1, 0], MALFORMED),
        ];
        let only_v311: Vec<(&str, Vec<u8>, u8)> = vec![
            ("DISCONNECT with a body", vec![0xe0, 1, 0], MALFORMED),
            ("PUBACK with a reason", vec![0x40, 3, 0, 1, 0], MALFORMED),
            ("PUBREL with a reason", vec![0x62, 3, 0, 1, 0], MALFORMED),
            ("SUBSCRIBE with options of version 5", subscribe(V311, &[("a", 0x05)]), MALFORMED),
        ];
        let only_v5: Vec<(&str, Vec<u8>, u8)> = vec![
            ("PUBLISH without a property length", packet(0x30, &text("a")), MALFORMED),
            ("properties beyond the packet", packet(0x30, &[&text("a")[..], &[99, 1]].concat()), MALFORMED),
            ("an unknown property", publish_with(V5, 0, "a", "x", 1, &[0x77, 0]), MALFORMED),
            ("a property twice", publish_with(V5, 0, "a", "x", 1, &[1, 0, 1, 0]), PROTOCOL),
            ("a subscription identifier", publish_with(V5, 0, "a", "x", 1, &[0x0b, 1]), PROTOCOL),
            ("a wildcard in a response topic", publish_with(V5, 0, "a", "x", 1, &[8, 0, 1, b'#']), MALFORMED),
            ("NUL in a content type", publish_with(V5, 0, "a", "x", 1, &[3, 0, 1, 0]), MALFORMED),
            ("DISCONNECT with an unknown reason", vec![0xe0, 1, 0x7f], MALFORMED),
            ("a shared subscription without one's own", subscribe(V5, &[("$share/g/a", 0x05)]), PROTOCOL),
            (
                "subscription identifier 0",
                packet(0x82, &[&[0, 1, 2, 0x0b, 0][..], &text("a"), &[1]].concat()),
                PROTOCOL,
            ),
            ("$share without a filter", subscribe(V5, &[("$share/g", 1)]), MALFORMED),
        ];
        let table = table.into_iter().chain(if version == V5 { only_v5 } else { only_v311 });
        let bench = Bench::new();
        for (what, bytes, reason) in table {
            let (mut client, task) = bench.dial();
            client.connect(&hello(version, "c")).await;
            client.send(&bytes).await;
            let reasons: Vec<u8> = client.rest().await.iter().map(|packet| packet.reason()).collect();
            let expected = if version == V5 { vec![reason] } else { vec![] };
            assert_eq!(reasons, expected, "{what}, version {version}");
            drop(client);
            task.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        assert_eq!(bench.gate.payloads(), [""; 0], "none of it reached the gate");
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_packet_is_taken_and_one_byte_more_is_not() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut client = bench.connect(hello(version, "c")).await;
        let frame = publish(version, "t", "", 1).len() + 2;
        let largest = "x".repeat(128 * 1024 - frame);
        client.publish("t", &largest, 1).await;
        assert_eq!(client.receive().await.acknowledged(), 1);
        let bytes = publish(version, "t", &format!("{largest}x"), 2);
        // Our side is read to its end: a socket closed over unread input would be reset, and the reason lost.
        client.send(&bytes).await;
        let reasons: Vec<u8> = client.rest().await.iter().map(|packet| packet.reason()).collect();
        assert_eq!(reasons, if version == V5 { vec![TOO_LARGE] } else { vec![] });
        assert_eq!(bench.gate.payloads(), [largest]);
    }
}

/// What a well-behaved client of a version might send, to be mutated.
fn valid(rng: &mut StdRng, version: u8) -> (usize, Vec<u8>) {
    let mut hello = hello(version, "fuzz").will("w", "x");
    if rng.random_bool(0.5) {
        hello = hello.persistent();
    }
    let mut bytes = hello.packet();
    let connect = bytes.len();
    let packets = [
        publish(version, "a/b", "hello", 1),
        publish(version, "a/c", "hello", 0),
        publish_with(version, 1, "a/b", "kept", 2, &[0x23, 0, 1, 2, 0, 0, 0, 9, 3, 0, 1, b't']),
        publish_with(version, 8, "", "again", 3, &[0x23, 0, 1, 38, 0, 1, b'k', 0, 1, b'v']),
        subscribe(version, &[("a/#", 1), ("+/b", 0)]),
        unsubscribe(version, &["a/#"]),
        vec![0xc0, 0],
        vec![0x40, 2, 0, 1],
        publish_2(version, false, "a/b", "twice", 4),
        publish_2(version, true, "a/b", "twice", 4),
        vec![0x62, 2, 0, 4],
        vec![0x50, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        subscribe(version, &[("$share/g/a/#", 2)]),
        packet(0xe0, if version == V5 { &[4, 5, 0x11, 0, 0, 0, 9] } else { &[] }),
    ];
    for _ in 0..rng.random_range(1..6) {
        bytes.extend(&packets[rng.random_range(0..packets.len())]);
    }
    (connect, bytes)
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>, from: usize) {
    for _ in 0..rng.random_range(1..7) {
        let at = rng.random_range(from..bytes.len());
        match rng.random_range(0..10) {
            0..5 => bytes[at] = rng.random(),
            5..7 if bytes.len() > from + 2 => {
                bytes.remove(at);
            }
            5..9 => bytes.insert(at, rng.random()),
            _ => {
                let piece = bytes[from..bytes.len().min(from + 20)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_mutations_neither_panic_nor_hang_the_endpoint() {
    let bench = Bench::new();
    let mut rng = StdRng::seed_from_u64(7);
    let mut answered = 0;
    for round in 0..20_000 {
        let version = if rng.random_bool(0.5) { V311 } else { V5 };
        let (connect, mut bytes) = valid(&mut rng, version);
        match round % 4 {
            0 => rng.fill_bytes(&mut bytes[..]),
            1 => rng.fill_bytes(&mut bytes[connect..]),
            2 => mutate(&mut rng, &mut bytes, 0),
            _ => mutate(&mut rng, &mut bytes, connect),
        }
        let (mut client, task) = bench.dial();
        // The server may hang up before all is written.
        let _ = client.socket.write_all(&bytes).await;
        let _ = client.socket.shutdown().await;
        answered += usize::from(!client.rest().await.is_empty());
        drop(client);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(600), task).await;
        ended.unwrap_or_else(|_| panic!("round {round} hangs on {bytes:02x?}")).unwrap_or_else(|error| {
            panic!("round {round}, {bytes:02x?}: {error}");
        });
    }
    assert!(answered > 9_000, "most of them were more than noise: {answered}");
    let mut client = bench.connect(hello(V5, "well")).await;
    client.subscribe(&[("still/#", 1)]).await;
    client.publish("still/here", "x", 1).await;
    let kinds = [client.receive().await.kind(), client.receive().await.kind()];
    assert!(kinds == [3, 4] || kinds == [4, 3], "delivered and acknowledged");
}
