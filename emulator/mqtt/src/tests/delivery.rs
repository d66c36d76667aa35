//! Who gets a message: filters, quality of service, retained messages, slow subscribers, what version 5 adds.

use std::time::Duration;

use bytes::Bytes;

use super::client::{Delivered, Packet, V5, V311, hello, packet, publish_with, text, unsubscribe};
use super::{Bench, Limits, idle};

fn seen(delivered: &Delivered) -> (&str, &str, u8) {
    (&delivered.topic, &delivered.payload, delivered.qos)
}

#[tokio::test(start_paused = true)]
async fn subscribers_get_what_their_filters_cover_once_at_the_lower_quality() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut subscriber = bench.connect(hello(version, "s")).await;
        let granted =
            subscriber.subscribe(&[("a/+/c", 1), ("w/#", 2), ("w/x/#", 0), ("v/#", 0), ("v/x", 1), ("z", 0)]).await;
        assert_eq!(granted, [1, 2, 0, 0, 1, 0]);
        let mut publisher = bench.connect(hello(version, "p")).await;
        let sent = [("a/b/c", 1), ("w", 2), ("w/x/y", 3), ("a/b/d", 4), ("w/q", 0), ("$w/x", 5), ("v/x", 6), ("z", 7)];
        for (topic, id) in sent {
            publisher.publish(topic, topic, id).await;
        }
        for (topic, qos) in [("a/b/c", 1), ("w", 1), ("w/x/y", 1), ("w/q", 0), ("v/x", 1), ("z", 0)] {
            assert_eq!(seen(&subscriber.delivery().await), (topic, topic, qos));
        }
        subscriber.ping().await;
        subscriber.send(&unsubscribe(version, &["w/#", "nothing"])).await;
        let unsuback = subscriber.receive().await;
        let codes: &[u8] = if version == V5 { &[0, 78, 0, 0, 0x11] } else { &[0, 78] };
        assert_eq!((unsuback.kind(), &unsuback.body[..]), (11, codes));
        publisher.publish("w/q", "no more", 8).await;
        publisher.publish("z", "but this", 9).await;
        assert_eq!(subscriber.delivery().await.payload, "but this");
    }
}

#[tokio::test(start_paused = true)]
async fn the_system_publishes_to_subscribers() {
    let bench = Bench::new();
    let mut subscriber = bench.connect(hello(V311, "s")).await;
    subscriber.subscribe(&[("alerts/ack/+", 1), ("#", 0)]).await;
    bench.endpoint.publish("alerts/ack/42", Bytes::from_static(b"{}")).await;
    bench.endpoint.publish("alerts/#", Bytes::from_static(b"no topic")).await;
    assert_eq!(seen(&subscriber.delivery().await), ("alerts/ack/42", "{}", 1));
    subscriber.ping().await;
    assert_eq!(bench.gate.payloads(), [""; 0], "not through the gate");
}

#[tokio::test(start_paused = true)]
async fn retained_messages_meet_new_subscribers_until_replaced_or_cleared() {
    for version in [V311, V5] {
        let bench = Bench::with(Limits { retained_messages: 2, ..Limits::default() });
        let mut publisher = bench.connect(hello(version, "p")).await;
        publisher.subscribe(&[("r/#", 1)]).await;
        for (id, (topic, payload)) in
            [("r/1", "old"), ("r/1", "new"), ("r/2", "two"), ("r/3", "too many")].iter().enumerate()
        {
            publisher.send(&publish_with(version, 1, topic, payload, 1 + id as u16, &[])).await;
            let (first, second) = (publisher.receive().await, publisher.receive().await);
            let delivery = if first.kind() == 3 { first } else { second };
            assert!(!delivery.delivered(version).retain, "to those who are there already it is an ordinary message");
        }
        let mut late = bench.connect(hello(version, "late")).await;
        late.subscribe(&[("r/+", 0)]).await;
        for (topic, payload) in [("r/1", "new"), ("r/2", "two")] {
            let delivered = late.delivery().await;
            assert_eq!((seen(&delivered), delivered.retain), ((topic, payload, 0), true));
        }
        late.ping().await;
        publisher.send(&publish_with(version, 1, "r/1", "", 9, &[])).await;
        idle().await;
        let mut later = bench.connect(hello(version, "later")).await;
        later.subscribe(&[("r/#", 1)]).await;
        assert_eq!(later.delivery().await.payload, "two", "r/1 was cleared");
        later.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn version_5_subscription_options_are_kept() {
    let bench = Bench::new();
    let mut client = bench.connect(hello(V5, "c")).await;
    client.send(&publish_with(V5, 1, "r", "kept", 1, &[])).await;
    assert_eq!(client.receive().await.acknowledged(), 1);
    const NO_LOCAL: u8 = 0x04;
    const AS_PUBLISHED: u8 = 0x08;
    const IF_NEW: u8 = 0x10;
    const NEVER: u8 = 0x20;
    client.subscribe(&[("r", 1 | NEVER)]).await;
    client.ping().await;
    client.subscribe(&[("r", 1 | IF_NEW)]).await;
    client.ping().await;
    client.subscribe(&[("r", 1)]).await;
    assert_eq!(client.delivery().await.payload, "kept");
    client.subscribe(&[("r", 1 | NEVER | NO_LOCAL | AS_PUBLISHED)]).await;
    client.publish("r", "own", 2).await;
    assert_eq!(client.receive().await.acknowledged(), 2);
    client.ping().await;
    let mut other = bench.connect(hello(V5, "other")).await;
    other.send(&publish_with(V5, 1, "r", "foreign", 3, &[])).await;
    let delivered = client.delivery().await;
    assert_eq!((seen(&delivered), delivered.retain), (("r", "foreign", 1), true));
}

#[tokio::test(start_paused = true)]
async fn version_5_properties_travel_on_and_expired_messages_do_not() {
    let bench = Bench::new();
    let mut publisher = bench.connect(hello(V5, "p")).await;
    bench.connect(hello(V5, "s").persistent()).await.subscribe(&[("t", 1)]).await;
    idle().await;
    let content_type = [&[3][..], &text("text/plain")].concat();
    let user_property = [&[38][..], &text("key"), &text("value")].concat();
    let mut travelling = [content_type.clone(), user_property.clone()].concat();
    let lasting = [&travelling[..], &[2, 0, 0, 0, 100]].concat();
    publisher.send(&publish_with(V5, 0, "t", "short-lived", 1, &[2, 0, 0, 0, 10])).await;
    publisher.send(&publish_with(V5, 0, "t", "lasting", 2, &lasting)).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let (mut subscriber, _) = bench.dial();
    assert!(subscriber.connect(&hello(V5, "s").persistent()).await.session_present());
    let delivered = subscriber.delivery().await;
    travelling.extend([2, 0, 0, 0, 60]);
    assert_eq!(
        (delivered.payload.as_str(), delivered.properties),
        ("lasting", travelling),
        "with what is left of its time"
    );
    subscriber.ping().await;
}

#[tokio::test(start_paused = true)]
async fn version_5_topic_aliases_and_packet_sizes_are_kept() {
    let bench = Bench::new();
    let mut small = hello(V5, "s");
    small.properties = vec![0x27, 0, 0, 0, 100];
    let mut subscriber = bench.connect(small).await;
    subscriber.subscribe(&[("t/#", 1)]).await;
    let mut publisher = bench.connect(hello(V5, "p")).await;
    publisher.send(&publish_with(V5, 0, "t/long/name", "by name", 1, &[0x23, 0, 1])).await;
    publisher.send(&publish_with(V5, 0, "", &"x".repeat(100), 2, &[0x23, 0, 1])).await;
    publisher.send(&publish_with(V5, 0, "", "by alias", 3, &[0x23, 0, 1])).await;
    for payload in ["by name", "by alias"] {
        assert_eq!(seen(&subscriber.delivery().await), ("t/long/name", payload, 1));
    }
    subscriber.ping().await;
    for (alias, reason) in [(0, 0x82), (2, 0x94), (17, 0x94)] {
        let mut client = bench.connect(hello(V5, "c")).await;
        client.send(&publish_with(V5, 0, "", "unknown", 1, &[0x23, 0, alias])).await;
        assert_eq!(client.receive().await.reason(), reason, "alias {alias}");
        assert_eq!(client.rest().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_misses_qos_0_and_is_disconnected_at_qos_1() {
    let by_number = Limits { queued_messages: 50, ..Limits::default() };
    let by_bytes = Limits { queued_bytes: 50_000, ..Limits::default() };
    for limits in [by_number, by_bytes] {
        let bench = Bench::with(limits);
        let mut patient = bench.connect(hello(V5, "patient")).await;
        patient.subscribe(&[("t", 0)]).await;
        let mut strict = bench.connect(hello(V5, "strict")).await;
        strict.subscribe(&[("t", 1)]).await;
        let mut publisher = bench.connect(hello(V5, "p")).await;
        let payload = "x".repeat(1000);
        for id in 1..=1000 {
            publisher.publish("t", &payload, id).await;
            assert_eq!(publisher.receive().await.acknowledged(), id, "the publisher is not held up");
        }
        let rest = strict.rest().await;
        let (last, before) = rest.split_last().unwrap();
        assert_eq!(last.reason(), 0x97, "quota exceeded");
        assert!(before.len() >= 50 && before.len() < 300, "{} came before", before.len());
        idle().await;
        patient.send(&[0xc0, 0]).await;
        let mut received = 0;
        while patient.receive().await.kind() == 3 {
            received += 1;
        }
        assert!((50..300).contains(&received), "{received} of 1000 came, and the connection stands");
    }
}

#[tokio::test(start_paused = true)]
async fn deliveries_wait_for_acknowledgements_within_the_receive_maximum() {
    let bench = Bench::new();
    let mut modest = hello(V5, "s");
    modest.properties = vec![0x21, 0, 2];
    let mut subscriber = bench.connect(modest).await;
    subscriber.subscribe(&[("t", 1)]).await;
    let mut publisher = bench.connect(hello(V5, "p")).await;
    for id in 1..=5 {
        publisher.publish("t", &id.to_string(), id).await;
    }
    let first = subscriber.delivery().await;
    let second = subscriber.delivery().await;
    subscriber.expect_nothing().await;
    subscriber.acknowledge(second.packet_id.unwrap()).await;
    let third = subscriber.delivery().await;
    subscriber.expect_nothing().await;
    let payloads = [&first.payload, &second.payload, &third.payload];
    assert_eq!(payloads, ["1", "2", "3"]);
    assert!(first.packet_id != third.packet_id && second.packet_id != first.packet_id);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_beyond_the_bound_are_refused_alone() {
    for (version, too_many) in [(V311, 0x80), (V5, 0x97)] {
        let bench = Bench::with(Limits { subscriptions: 2, ..Limits::default() });
        let mut client = bench.connect(hello(version, "c")).await;
        let codes = client.subscribe(&[("a", 1), ("$share/g/x", 1), ("b", 1), ("a", 0)]).await;
        assert_eq!(codes, [1, 1, too_many, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shared_subscription_hands_each_message_to_one_member_that_is_there() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let (mut one, mut two) =
            (bench.connect(hello(version, "1").persistent()).await, bench.connect(hello(version, "2")).await);
        let mut publisher = bench.connect(hello(version, "p")).await;
        publisher.send(&publish_with(version, 1, "t/kept", "kept", 9, &[])).await;
        publisher.receive().await;
        for client in [&mut one, &mut two] {
            assert_eq!(client.subscribe(&[("$share/g/t/#", 1)]).await, [1]);
            client.ping().await;
        }
        two.subscribe(&[("t/own", 1)]).await;
        for id in 1..=4 {
            publisher.publish("t/x", &id.to_string(), id).await;
        }
        for (client, payloads) in [(&mut one, ["1", "3"]), (&mut two, ["2", "4"])] {
            for payload in payloads {
                let delivery = client.delivery().await;
                assert_eq!(delivery.payload, payload, "they take turns");
                client.acknowledge(delivery.packet_id.unwrap()).await;
            }
            client.ping().await;
        }
        drop(one);
        idle().await;
        publisher.publish("t/x", "5", 5).await;
        publisher.publish("t/x", "6", 6).await;
        for payload in ["5", "6"] {
            assert_eq!(two.delivery().await.payload, payload, "who is away is passed over");
        }
        two.send(&unsubscribe(version, &["$share/g/t/#"])).await;
        two.receive().await;
        publisher.publish("t/x", "7", 7).await;
        idle().await;
        two.ping().await;
        let mut one = bench.connect(hello(version, "1").persistent()).await;
        assert_eq!(one.delivery().await.payload, "7", "alone in the group and away: it waits");
    }
}

#[tokio::test(start_paused = true)]
async fn version_5_subscription_identifiers_and_our_topic_aliases_come_with_the_messages() {
    let bench = Bench::new();
    let mut with_aliases = hello(V5, "c");
    with_aliases.properties = vec![0x22, 0, 1];
    let mut client = bench.connect(with_aliases).await;
    for (filter, identifier) in [("t", 5), ("t/#", 6)] {
        let body = [&[0, 1, 2, 0x0b, identifier][..], &text(filter), &[1]].concat();
        client.send(&packet(0x82, &body)).await;
        assert_eq!(client.receive().await.kind(), 9);
    }
    let mut publisher = bench.connect(hello(V5, "p")).await;
    for id in 1..=2 {
        publisher.publish("t", &id.to_string(), id).await;
    }
    publisher.publish("t/other", "3", 3).await;
    let seen = [client.delivery().await, client.delivery().await, client.delivery().await];
    let identifiers = [0x0b, 6, 0x0b, 5];
    let alias = [0x23, 0, 1];
    assert_eq!((seen[0].topic.as_str(), &seen[0].properties), ("t", &[&identifiers[..], &alias].concat()));
    assert_eq!((seen[1].topic.as_str(), &seen[1].properties), ("", &[&identifiers[..], &alias].concat()));
    assert_eq!((seen[2].topic.as_str(), &seen[2].properties), ("t/other", &vec![0x0b, 6]));
}

#[tokio::test]
async fn health_checks_find_the_servers_own_topics() {
    use tokio::net::{TcpListener, TcpStream};
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serving = tokio::spawn(bench.endpoint.clone().serve(listener, bench.stop.clone()));
    let mut client = super::client::Client::new(TcpStream::connect(at).await.unwrap());
    client.connect(&hello(V311, "check")).await;
    client.subscribe(&[("$SYS/#", 0)]).await;
    let mut topics = [client.delivery().await.topic, client.delivery().await.topic, client.delivery().await.topic];
    topics.sort();
    assert_eq!(topics, ["$SYS/broker/clients/connected", "$SYS/broker/uptime", "$SYS/broker/version"]);
    bench.stop.cancel();
    drop(client);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn e5_the_gate_says_who_may_subscribe_and_who_is_handed_what() {
    for (version, refused) in [(V311, 0x80), (V5, 0x87)] {
        let bench = Bench::new();
        let named = |user: &str| {
            let mut hello = hello(version, user);
            hello.login = Some((user.to_owned(), "secret".to_owned()));
            hello
        };
        let mut publisher = bench.connect(named("publisher")).await;
        publisher.send(&publish_with(version, 1, "secret/kept", "kept", 1, &[])).await;
        publisher.receive().await;
        let mut stranger = bench.connect(hello(version, "stranger")).await;
        assert_eq!(stranger.subscribe(&[("secret/#", 1), ("#", 1), ("+/kept", 1)]).await, [refused, 1, 1]);
        stranger.ping().await;
        let (mut butte, mut yuba) = (bench.connect(named("butte")).await, bench.connect(named("yuba")).await);
        for client in [&mut butte, &mut yuba] {
            assert_eq!(client.subscribe(&[("secret/#", 1)]).await, [1]);
            assert_eq!(client.delivery().await.payload, "kept");
        }
        publisher.publish("secret/for-butte", "refused", 2).await;
        publisher.publish("open", "for all", 3).await;
        assert_eq!(seen(&butte.delivery().await), ("secret/for-butte", "refused", 1));
        assert_eq!(seen(&stranger.delivery().await), ("open", "for all", 1), "and nothing before it");
        yuba.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_no_rule_takes_is_told_to_version_5_unless_somebody_subscribed_to_it() {
    use super::Taken;
    let bench = Bench::new();
    bench.gate.taken.lock().insert("sensor/a/1/state".into(), Taken::NoRule);
    let (mut newer, mut older) = (bench.connect(hello(V5, "newer")).await, bench.connect(hello(V311, "older")).await);
    for (id, reason) in [(1, Some(0x10)), (2, None)] {
        newer.publish("sensor/a/1/state", "x", id).await;
        let body = [&id.to_be_bytes()[..], reason.as_slice()].concat();
        assert_eq!(newer.receive().await, Packet { first: 0x40, body });
        older.publish("sensor/a/1/state", "x", id).await;
        assert_eq!(older.receive().await.acknowledged(), id, "3.1.1 has no word for it");
        if id == 1 {
            bench.connect(hello(V5, "s").persistent()).await.subscribe(&[("sensor/#", 1)]).await;
        }
    }
    newer.publish("sensors/a/1/state", "x", 3).await;
    assert_eq!(newer.receive().await.acknowledged(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_gate_withholds_is_acknowledged_and_reaches_subscribers_only_from_the_system() {
    use super::Taken;
    let bench = Bench::new();
    bench.gate.taken.lock().insert("alerts/a".into(), Taken::Withheld);
    let mut subscriber = bench.connect(hello(V5, "s")).await;
    subscriber.subscribe(&[("alerts/#", 1)]).await;
    let mut publisher = bench.connect(hello(V5, "p")).await;
    publisher.send(&publish_with(V5, 1, "alerts/a", "unjudged", 1, &[])).await;
    assert_eq!(publisher.receive().await.acknowledged(), 1);
    subscriber.ping().await;
    bench.endpoint.publish("alerts/a", Bytes::from_static(b"accepted")).await;
    assert_eq!(subscriber.delivery().await.payload, "accepted");
    let mut late = bench.connect(hello(V5, "late")).await;
    late.subscribe(&[("alerts/#", 1)]).await;
    late.ping().await;
}
