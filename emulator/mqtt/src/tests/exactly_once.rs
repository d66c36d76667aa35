//! QoS 2, both ways: the gate is asked once, subscribers are handed once, and nothing blocks a client for ever.

use super::client::{PUBCOMP, PUBREC, PUBREL, Packet, V5, V311, hello, publish_2, step};
use super::{Bench, Limits, Refused, idle};

#[tokio::test(start_paused = true)]
async fn a_publish_that_comes_again_is_answered_again_and_taken_once() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut subscriber = bench.connect(hello(version, "s")).await;
        subscriber.subscribe(&[("t", 0)]).await;
        let mut client = bench.connect(hello(version, "c")).await;
        bench.gate.hold();
        client.send(&publish_2(version, false, "t", "1", 7)).await;
        client.send(&publish_2(version, true, "t", "1", 7)).await;
        client.ping().await;
        assert_eq!(bench.gate.payloads(), ["1"], "with the gate, and not answered before it has spoken");
        bench.gate.release("1");
        assert_eq!(client.receive().await, step(PUBREC, 7));
        client.ping().await;
        for dup in [true, false] {
            client.send(&publish_2(version, dup, "t", "1", 7)).await;
            assert_eq!(client.receive().await, step(PUBREC, 7));
        }
        client.send(&step(PUBREL, 7).bytes()).await;
        assert_eq!(client.receive().await, step(PUBCOMP, 7));
        client.send(&step(PUBREL, 7).bytes()).await;
        let unknown = if version == V5 { vec![0, 7, 0x92] } else { vec![0, 7] };
        assert_eq!(client.receive().await, Packet { first: PUBCOMP, body: unknown }, "nothing is released twice");
        assert_eq!(subscriber.delivery().await.payload, "1");
        subscriber.ping().await;
        client.send(&publish_2(version, false, "t", "1", 7)).await;
        client.ping().await;
        assert_eq!(bench.gate.payloads(), ["1", "1"], "a packet id that was released is free for another message");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_while_the_gate_still_works_is_answered_and_the_gate_is_not_asked_again() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut subscriber = bench.connect(hello(version, "s")).await;
        subscriber.subscribe(&[("t", 0)]).await;
        bench.gate.hold();
        let mut client = bench.connect(hello(version, "c").persistent()).await;
        client.send(&publish_2(version, false, "t", "1", 1)).await;
        client.publish("t", "2", 2).await;
        client.ping().await;
        drop(client);
        idle().await;
        let mut client = bench.connect(hello(version, "c").persistent()).await;
        client.send(&publish_2(version, true, "t", "1", 1)).await;
        client.publish("t", "3", 3).await;
        client.expect_nothing().await;
        assert_eq!(bench.gate.payloads(), ["1", "2"], "what came before it is settled first");
        bench.gate.release("1");
        bench.gate.release("2");
        assert_eq!(client.receive().await, step(PUBREC, 1));
        idle().await;
        bench.gate.release("3");
        assert_eq!(client.receive().await.acknowledged(), 3);
        assert_eq!(bench.gate.payloads(), ["1", "2", "3"]);
        for payload in ["1", "2", "3"] {
            assert_eq!(subscriber.delivery().await.payload, payload);
        }
        drop(client);
        idle().await;
        let mut client = bench.connect(hello(version, "c").persistent()).await;
        client.send(&publish_2(version, true, "t", "1", 1)).await;
        assert_eq!(client.receive().await, step(PUBREC, 1), "still remembered");
        client.send(&step(PUBREL, 1).bytes()).await;
        assert_eq!(client.receive().await, step(PUBCOMP, 1));
        subscriber.ping().await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_message_under_a_packet_id_that_was_never_released_is_not_lost() {
    let bench = Bench::new();
    let mut client = bench.connect(hello(V311, "c").persistent()).await;
    client.send(&publish_2(V311, false, "t", "before the reset", 1)).await;
    assert_eq!(client.receive().await, step(PUBREC, 1));
    client.send(&publish_2(V311, false, "t", "after the reset", 1)).await;
    assert_eq!(client.receive().await, step(PUBREC, 1));
    assert_eq!(bench.gate.payloads(), ["before the reset", "after the reset"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_publish_leaves_its_packet_id_free() {
    let bench = Bench::new();
    bench.gate.refuse("bad", Refused::Invalid("no JSON".into()));
    bench.gate.refuse("secret", Refused::NotAuthorized);
    let mut newer = bench.connect(hello(V5, "newer")).await;
    for _ in 0..2 {
        newer.send(&publish_2(V5, false, "bad", "1", 1)).await;
        let told = [&[0, 1, 0x99, 10, 0x1f, 0, 7][..], b"no JSON"].concat();
        assert_eq!(newer.receive().await, Packet { first: PUBREC, body: told });
    }
    newer.send(&publish_2(V5, false, "good", "2", 1)).await;
    assert_eq!(newer.receive().await, step(PUBREC, 1));
    let mut older = bench.connect(hello(V311, "older")).await;
    older.send(&publish_2(V311, false, "bad", "3", 1)).await;
    assert_eq!(older.receive().await, step(PUBREC, 1), "it is kept, and would come again for ever");
    older.send(&publish_2(V311, false, "secret", "4", 2)).await;
    assert_eq!(older.rest().await, [], "3.1.1 has no word for it: closed without PUBREC");
}

#[tokio::test(start_paused = true)]
async fn publishes_that_are_never_released_end_the_connection_of_version_5_alone() {
    let bench = Bench::with(Limits { window: 4, ..Limits::default() });
    for version in [V311, V5] {
        let mut client = bench.connect(hello(version, "c")).await;
        for id in 1..=4 {
            client.send(&publish_2(version, false, "t", &id.to_string(), id)).await;
            assert_eq!(client.receive().await, step(PUBREC, id));
        }
        client.send(&publish_2(version, false, "t", "5", 5)).await;
        let answer = client.receive().await;
        if version == V5 {
            assert_eq!(answer.reason(), 0x93, "receive maximum exceeded");
        } else {
            assert_eq!(answer, step(PUBREC, 5), "3.1.1 knows no receive maximum");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_gets_each_message_once_through_every_break_of_the_handshake() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let who = || hello(version, "s").persistent();
        let mut subscriber = bench.connect(who()).await;
        assert_eq!(subscriber.subscribe(&[("t", 2)]).await, [2]);
        let mut publisher = bench.connect(hello(version, "p")).await;
        publisher.send(&publish_2(version, false, "t", "1", 1)).await;
        let first = subscriber.delivery().await;
        assert_eq!((first.payload.as_str(), first.qos, first.dup), ("1", 2, false));
        drop(subscriber);
        idle().await;
        let mut subscriber = bench.connect(who()).await;
        let again = subscriber.delivery().await;
        assert_eq!((again.packet_id, again.dup), (first.packet_id, true));
        let id = first.packet_id.unwrap();
        subscriber.send(&step(PUBREC, id).bytes()).await;
        assert_eq!(subscriber.receive().await, step(PUBREL, id));
        drop(subscriber);
        idle().await;
        let mut subscriber = bench.connect(who()).await;
        assert_eq!(subscriber.receive().await, step(PUBREL, id), "the message itself does not come again");
        subscriber.acknowledge(id).await;
        subscriber.send(&step(PUBCOMP, id).bytes()).await;
        subscriber.ping().await;
        drop(subscriber);
        idle().await;
        let mut subscriber = bench.connect(who()).await;
        subscriber.ping().await;
        subscriber.send(&step(PUBREC, 99).bytes()).await;
        let unknown = if version == V5 { vec![0, 99, 0x92] } else { vec![0, 99] };
        assert_eq!(subscriber.receive().await, Packet { first: PUBREL, body: unknown });
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_will_of_qos_2_is_taken_once_and_delivered_as_such() {
    for version in [V311, V5] {
        let bench = Bench::new();
        let mut subscriber = bench.connect(hello(version, "s")).await;
        subscriber.subscribe(&[("w", 2)]).await;
        let mut leaving = hello(version, "c").will("w", "gone");
        leaving.will.as_mut().unwrap().2 = 2;
        drop(bench.connect(leaving).await);
        let will = subscriber.delivery().await;
        assert_eq!((will.payload.as_str(), will.qos), ("gone", 2));
        assert_eq!(bench.gate.payloads(), ["gone"]);
        assert_eq!(bench.gate.stored.lock()[0].qos, 0, "nobody waits for its acknowledgement");
    }
}
