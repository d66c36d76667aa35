//! Laws of the express path in simulated time [E1, E2, E4, A2]: which of broker and queue acknowledges, that nobody's
//! try costs another anything, and the order of a thread.

#[path = "express/admission.rs"]
mod admission;
#[path = "express/order.rs"]
mod order;
#[path = "express/refusals.rs"]
mod refusals;
#[path = "express/reply.rs"]
mod reply;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use streammanager::app::App;
use streammanager::breaker::BreakerState;
use streammanager::dead;
use streammanager::deliver::deliver;
use streammanager::error::Reason;
use streammanager::express::{Accepted, AcknowledgedBy, Refusal, Verdict, Why};
use streammanager::faults::Fault;
use streammanager::faults::sink::Fault as SinkFault;
use streammanager::limits::{ALERT_BYTES, COPY_DELAY};
use streammanager::record::{Outgoing, Tier};
use streammanager::sink::Lane;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::published::assert_valid;
use streammanager_tests::samples;
use streammanager_tests::simulated::{Simulated, send_alert};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "wildfire-critical-alerts";

/// Whether nothing was taken, and why.
fn refused(verdict: &Verdict) -> Option<Why> {
    match verdict {
        Verdict::Refused(Refusal { why, .. }) => Some(*why),
        _ => None,
    }
}

fn accepted(verdict: Verdict) -> Accepted {
    match verdict {
        Verdict::Taken { accepted, rejected, .. } => {
            assert_eq!((accepted.len(), rejected.len()), (1, 0), "{rejected:?}");
            accepted[0].clone()
        }
        other => panic!("not accepted: {other:?}"),
    }
}

fn messages(sim: &Simulated) -> Vec<String> {
    let event = |record: &Outgoing| {
        assert_valid(TOPIC, &serde_json::from_slice(&record.value).unwrap());
        record.event.to_string()
    };
    sim.stored(TOPIC).iter().map(event).collect()
}

#[tokio::test(start_paused = true)]
async fn e1_a_broker_that_is_well_acknowledges_and_no_queue_is_touched() {
    let sim = Simulated::new(1);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(20));
    let started = Instant::now();
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!((one.acknowledged_by, one.topic.as_str(), one.drill), (AcknowledgedBy::Broker, TOPIC, false));
    assert_eq!(started.elapsed(), Duration::from_millis(20));
    assert_eq!((sim.sink.sends(), sim.queued().await), (vec![(Lane::Critical, 1)], 0));
}

#[tokio::test(start_paused = true)]
async fn s12_an_alert_sent_again_is_one_message_and_a_changed_one_its_next_revision() {
    let sim = Simulated::new(17);
    let key = sim.sender("butte").await;
    let first = accepted(sim.alert(&key, actual("A")).await);
    let again = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(again, Accepted { duplicate: true, ..first.clone() }, "the sender that asks again hears the same");
    assert_eq!(messages(&sim).len(), 1);
    let mut changed: serde_json::Value = serde_json::from_str(&actual("A")).unwrap();
    changed["event"] = "Evacuation Warning".into();
    for _ in 0..2 {
        assert_eq!(accepted(sim.alert(&key, changed.to_string()).await).event_id, first.event_id);
    }
    let revisions = |sim: &Simulated| sim.stored(TOPIC).iter().map(|record| record.revision).collect::<Vec<_>>();
    assert_eq!((messages(&sim).len(), revisions(&sim)), (2, vec![0, 1]));
    // What was refused was not accepted before.
    sim.sink.script([SinkFault::Refuse]);
    assert!(matches!(sim.alert(&key, actual("B")).await, Verdict::Taken { rejected, .. } if rejected.len() == 1));
    accepted(sim.alert(&key, actual("B")).await);
    assert_eq!(messages(&sim).len(), 3);
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(accepted(sim.alert(&key, actual("A")).await), again, "also later, and after another content");
    assert_eq!(messages(&sim).len(), 3);
    // At the same time: two contents never have the same revision.
    sim.sink.delay(Duration::from_millis(20));
    let [one, other] = ["Evacuation Order", "Evacuation Warning"].map(|event| {
        let mut body: serde_json::Value = serde_json::from_str(&actual("C")).unwrap();
        body["event"] = event.into();
        body.to_string()
    });
    let (one, other) = tokio::join!(sim.alert(&key, one), sim.alert(&key, other));
    assert_eq!(accepted(one).event_id, accepted(other).event_id);
    let mut both = revisions(&sim)[3..].to_vec();
    both.sort();
    assert_eq!(both, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn e2_a_slow_broker_loses_to_the_queue_after_50_ms_and_the_alert_arrives_once() {
    let sim = Simulated::new(2);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(400));
    let started = Instant::now();
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!((one.acknowledged_by, started.elapsed()), (AcknowledgedBy::Queue, Duration::from_millis(50)));
    assert_eq!((sim.depth(Tier::Critical).await.total(), sim.sink.stored().len()), (1, 0));
    // The try that the queue has overtaken goes on to its own end.
    sim.app.tries.ended().await;
    assert_eq!((started.elapsed(), messages(&sim)), (Duration::from_millis(400), vec![one.event_id.to_string()]));
    assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::Closed);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim).len(), 1, "the copy was void");
    let totals = sim.app.tally.totals();
    assert_eq!((totals.accepted, totals.delivered_in_all(), totals.redelivered), (1, 1, 0));
}

/// Nobody can note that the broker has the record: then the copy is published too, visibly, and counted as a repeat [K6].
#[tokio::test(start_paused = true)]
async fn k6_a_copy_that_cannot_be_made_void_is_a_counted_duplicate() {
    let sim = Simulated::new(21);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(400));
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(one.acknowledged_by, AcknowledgedBy::Queue);
    sim.store_faults.outage(true);
    sim.app.tries.ended().await;
    sim.store_faults.outage(false);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim), [one.event_id.to_string(), one.event_id.to_string()]);
    let totals = sim.app.tally.totals();
    assert_eq!((totals.accepted, totals.delivered_in_all(), totals.redelivered), (1, 1, 1));
}

/// An acknowledgement that comes later than any should: the copy is in hand by then, and still waits for its try's end.
#[tokio::test(start_paused = true)]
async fn e2_a_copy_waits_for_the_end_of_its_try() {
    let sim = Simulated::new(22);
    let key = sim.sender("butte").await;
    sim.sink.overdue(COPY_DELAY + Duration::from_secs(2));
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(one.acknowledged_by, AcknowledgedBy::Queue);
    sim.sink.overdue(Duration::ZERO);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(10)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim), [one.event_id.to_string()]);
}

/// Another process knows nothing of the try: the copy's delay keeps it hidden until the try has ended and made it void.
#[tokio::test(start_paused = true)]
async fn e2_another_process_takes_no_copy_before_its_try_has_ended() {
    let sim = Simulated::new(33);
    let key = sim.sender("butte").await;
    let (elsewhere, stop) = (App { tries: Arc::default(), ..order::instance(&sim) }, CancellationToken::new());
    let stopped = stop.clone();
    let delivering = tokio::spawn(async move { deliver(&elsewhere, &stopped).await });
    sim.sink.delay(Duration::from_millis(400));
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(one.acknowledged_by, AcknowledgedBy::Queue);
    sim.app.tries.ended().await;
    sim.drained(Duration::from_secs(10)).await;
    stop.cancel();
    delivering.await.unwrap().unwrap();
    assert_eq!(messages(&sim), [one.event_id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn r2_alerts_that_fail_open_their_lanes_breaker() {
    let sim = Simulated::new(34);
    let key = sim.sender("butte").await;
    sim.sink.outage(true);
    for n in 0..3 {
        assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::Closed, "{n} have failed");
        let one = accepted(sim.alert(&key, actual(&format!("A{n}"))).await);
        assert_eq!(one.acknowledged_by, AcknowledgedBy::Queue);
        sim.app.tries.ended().await;
    }
    assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::Open);
}

/// E2: a sender that hangs up ends nothing half-way: what was begun is delivered and counted.
#[tokio::test(start_paused = true)]
async fn e2_a_sender_that_hangs_up_leaves_a_whole_alert_behind() {
    let sim = Simulated::new(23);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(400));
    for (n, hangs_up_after) in [10, 60].into_iter().enumerate() {
        let sending = sim.alert(&key, actual(&format!("A{n}")));
        let _ = tokio::time::timeout(Duration::from_millis(hangs_up_after), sending).await;
    }
    sim.app.tries.ended().await;
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    let totals = sim.app.tally.totals();
    assert_eq!((messages(&sim).len(), totals.accepted, totals.delivered_in_all()), (2, 2, 2));
}

/// E2, P1, R2: many senders at once at a broker that is slower than the hedge, or pauses. Nobody is refused, no alert is
/// published twice, every thread keeps its order, and the breaker stays closed as long as the broker acknowledges in time.
#[tokio::test(start_paused = true)]
async fn e2_many_senders_at_once_cost_one_another_nothing() {
    for (pause, closed) in [(0, true), (60, true), (200, true), (1_900, true), (2_500, false)] {
        for senders in [1, 4, 8, 16, 64] {
            let sim = Arc::new(Simulated::new(senders));
            let key = sim.sender("butte").await;
            sim.sink.delay(Duration::from_millis(5));
            let delivering = sim.deliver();
            let sending = (0..senders).map(|sender| one_thread_after_another(sim.clone(), key.clone(), sender));
            let sending = tokio::spawn(futures::future::join_all(sending));
            tokio::time::sleep(Duration::from_millis(30)).await;
            sim.sink.pause(Duration::from_millis(pause));
            sending.await.unwrap();
            sim.app.tries.ended().await;
            sim.drained(Duration::from_secs(30)).await;
            delivering.stop().await;
            let told = format!("{senders} senders, a pause of {pause} ms");
            let mut threads: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for record in sim.stored(TOPIC) {
                let kind = record.headers().iter().find(|(name, _)| *name == "msgType").map(|(_, v)| v.to_string());
                threads.entry(record.key).or_default().extend(kind);
            }
            assert_eq!(threads.len() as u64, senders * THREADS, "{told}");
            for (thread, kinds) in threads {
                assert_eq!(kinds, ["Alert", "Update", "Cancel"], "{told}: {thread}");
            }
            let totals = sim.app.tally.totals();
            let sent = senders * THREADS * 3;
            assert_eq!((totals.accepted, totals.delivered_in_all(), totals.redelivered), (sent, sent, 0), "{told}");
            if closed {
                assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::Closed, "{told}");
            }
        }
    }
}

const THREADS: u64 = 5;

async fn one_thread_after_another(sim: Arc<Simulated>, key: String, sender: u64) {
    for thread in 0..THREADS {
        let first = format!("{sender}-{thread}");
        for (id, kind) in [("", "Alert"), ("-u", "Update"), ("-c", "Cancel")] {
            let references: &[&str] = if kind == "Alert" { &[] } else { &[&first] };
            accepted(sim.alert(&key, alert(&format!("{first}{id}"), "Actual", kind, references)).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn e2_a_broker_that_answers_while_the_copy_is_written_wins_and_the_copy_is_void() {
    let sim = Simulated::new(3);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(80));
    sim.queue_faults.script([Fault::Late(Duration::from_millis(100))]);
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(one.acknowledged_by, AcknowledgedBy::Broker);
    sim.app.tries.ended().await;
    assert_eq!(sim.depth(Tier::Critical).await.total(), 1);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim), [one.event_id.to_string()], "the copy is forgotten unsent");
    let next = accepted(sim.alert(&key, alert("B", "Actual", "Cancel", &["A"])).await);
    assert_eq!(next.acknowledged_by, AcknowledgedBy::Queue, "80 ms again");
}

#[tokio::test(start_paused = true)]
async fn e2_while_the_breaker_is_open_the_queue_takes_it_at_once() {
    let sim = Simulated::new(4);
    let key = sim.sender("butte").await;
    sim.open_breaker(Lane::Critical);
    let started = Instant::now();
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!((one.acknowledged_by, started.elapsed()), (AcknowledgedBy::Queue, Duration::ZERO));
    assert_eq!(sim.sink.sends(), []);
    // The first thing delivered on recovery.
    sim.ingest("firms_test", 0..500).await;
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(90)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim), [one.event_id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn e1_neither_broker_nor_queue_is_a_503_and_what_the_broker_refuses_is_a_dead_letter() {
    let sim = Simulated::new(5);
    let key = sim.sender("butte").await;
    sim.sink.outage(true);
    sim.queue_faults.outage(true);
    assert!(matches!(sim.alert(&key, actual("A")).await, Verdict::Unavailable { .. }));
    sim.sink.outage(false);
    sim.queue_faults.outage(false);
    assert_eq!(sim.queued().await, 0);

    sim.sink.script([SinkFault::Refuse]);
    match sim.alert(&key, actual("B")).await {
        Verdict::Taken { accepted, rejected, .. } => {
            assert_eq!((accepted.len(), rejected[0].reason), (0, Reason::SinkRefused));
        }
        other => panic!("{other:?}"),
    }
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    assert_eq!((letters[0].reason, letters[0].event.is_some()), (Reason::SinkRefused, true), "it names its event [R4]");
}

/// A sink that has lost the acknowledgement has the alert all the same: sent again under the same id [K6].
#[tokio::test(start_paused = true)]
async fn e2_a_lost_acknowledgement_is_a_second_copy_never_a_lost_alert() {
    let sim = Simulated::new(6);
    let key = sim.sender("butte").await;
    sim.sink.script([SinkFault::LostAck]);
    let one = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(one.acknowledged_by, AcknowledgedBy::Queue);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!(messages(&sim), [one.event_id.to_string(), one.event_id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn e4_a_cancel_waits_behind_its_alert_also_when_the_broker_is_back() {
    let sim = Simulated::new(7);
    let key = sim.sender("butte").await;
    sim.sink.outage(true);
    let first = accepted(sim.alert(&key, actual("A")).await);
    sim.sink.outage(false);
    let other = accepted(sim.alert(&key, actual("X")).await);
    let cancel = accepted(sim.alert(&key, alert("B", "Actual", "Cancel", &["A"])).await);
    assert_eq!((first.acknowledged_by, cancel.acknowledged_by), (AcknowledgedBy::Queue, AcknowledgedBy::Queue));
    assert_eq!(other.acknowledged_by, AcknowledgedBy::Broker, "another thread does not wait");
    // The first one's receive is lost: it stays hidden for its visibility, and the Cancel is received alone.
    let queue = sim.app.settings.queues.tier(Tier::Critical);
    tokio::time::sleep(COPY_DELAY).await;
    assert_eq!(sim.app.queue.receive(queue, 1, Duration::ZERO).await.unwrap().len(), 1);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(60)).await;
    let last = accepted(sim.alert(&key, alert("C", "Actual", "Update", &["A"])).await);
    assert_eq!(last.acknowledged_by, AcknowledgedBy::Broker, "an empty queue holds up nothing");
    delivering.stop().await;
    let order = [other, first, cancel, last].map(|accepted| accepted.event_id.to_string());
    assert_eq!(messages(&sim), order);
}

/// A crash between mark and message leaves a mark: no alert waits for what is not there.
#[tokio::test(start_paused = true)]
async fn e4_a_mark_without_a_message_delays_nothing() {
    let sim = Simulated::new(8);
    let key = sim.sender("butte").await;
    sim.sink.outage(true);
    sim.queue_faults.script([Fault::Before; 2]);
    // The store's calls: connector, what is known of it, the thread's marks and what others say of the sink, then twice a mark
    // and its removal, which fails.
    let (done, not_done) = (Fault::None, Fault::Before);
    sim.store_faults.script([done, done, done, done, done, not_done, done, not_done]);
    assert!(matches!(sim.alert(&key, actual("A")).await, Verdict::Unavailable { .. }));
    sim.sink.outage(false);
    let again = accepted(sim.alert(&key, actual("A")).await);
    assert_eq!(again.acknowledged_by, AcknowledgedBy::Queue, "the thread is still marked");
    let started = Instant::now();
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(messages(&sim), [again.event_id.to_string()]);
}

/// The recorded chain: Alert, Update and Cancel under one key and in order; the Test among the drills only, and its Error under its key.
#[tokio::test(start_paused = true)]
async fn e4_the_recorded_chain_keeps_its_order_under_one_key() {
    let Some(samples) = samples("the recorded evacuation chain") else { return };
    let sim = Simulated::new(15);
    let key = sim.sender("butte").await;
    for (n, name) in ["1_alert", "2_update", "3_cancel", "4_test", "5_error"].into_iter().enumerate() {
        // The broker is away for the first two: they wait in the queue.
        sim.sink.outage(n < 2);
        let path = samples.join(format!("cap_xml/synthetic_evac_humtest_{name}.cap.xml"));
        accepted(sim.alert(&key, std::fs::read_to_string(path).unwrap()).await);
    }
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(90)).await;
    delivering.stop().await;
    let header = |record: &Outgoing, wanted: &str| {
        record.headers().iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_string())
    };
    let (chain, others): (Vec<Outgoing>, Vec<Outgoing>) =
        sim.stored(TOPIC).into_iter().partition(|record| record.key == "oes.test@humboldt.example.invalid,HUMTEST-001");
    let kinds: Vec<_> = chain.iter().filter_map(|record| header(record, "msgType")).collect();
    assert_eq!(kinds, ["Alert", "Update", "Cancel"]);
    let drills = sim.stored("wildfire-alert-drills");
    assert_eq!(drills.iter().filter_map(|record| header(record, "status")).collect::<Vec<_>>(), ["Test"]);
    assert_eq!(others.iter().filter_map(|record| header(record, "msgType")).collect::<Vec<_>>(), ["Error"]);
    assert_eq!(others[0].key, drills[0].key, "the Error belongs to the Test's thread");
}

/// Each message refers to the one before it alone; a drill does the same in another thread.
#[tokio::test(start_paused = true)]
async fn e4_a_thread_whose_messages_name_only_the_last_one_keeps_its_key() {
    let sim = Simulated::new(18);
    let key = sim.sender("butte").await;
    for (id, status, kind, references) in [
        ("A", "Actual", "Alert", &[][..]),
        ("B", "Actual", "Update", &["A"]),
        ("C", "Actual", "Update", &["B"]),
        ("T", "Test", "Alert", &[]),
        ("U", "Test", "Update", &["T"]),
        ("V", "Test", "Cancel", &["U"]),
        ("D", "Actual", "Cancel", &["C"]),
    ] {
        accepted(sim.alert(&key, alert(id, status, kind, references)).await);
    }
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    let keys = |topic: &str| sim.stored(topic).iter().map(|record| record.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(TOPIC), ["test@example.org,A"; 4]);
    assert_eq!(keys("wildfire-alert-drills"), ["test@example.org,T"; 3]);
    // Without the state store the alert goes out all the same.
    sim.store_faults.outage(true);
    accepted(sim.alert(&key, alert("E", "Actual", "Cancel", &["D"])).await);
    assert_eq!(keys(TOPIC)[4], "test@example.org,A", "this process took D");
    let other = App { recent: Arc::default(), ..sim.app.clone() };
    accepted(send_alert(&other, &key, alert("F", "Actual", "Cancel", &["E"])).await);
    assert_eq!(keys(TOPIC)[5], "test@example.org,E", "best effort");
}

/// Two messages of one thread at the same time: the first waits in the queue, the second's copy is void.
#[tokio::test(start_paused = true)]
async fn e4_a_void_copy_leaves_its_elders_mark() {
    let sim = Simulated::new(12);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, actual("A")).await);
    sim.sink.delay(Duration::from_millis(80));
    // The broker gives the first one up. The second one's copy is written slowly, and the broker is faster.
    sim.sink.script([SinkFault::Retry]);
    sim.queue_faults.script([Fault::None, Fault::Late(Duration::from_millis(100))]);
    let (first, second) = tokio::join!(sim.alert(&key, alert("B", "Actual", "Update", &["A"])), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        sim.alert(&key, alert("C", "Actual", "Update", &["A"])).await
    });
    assert_eq!(accepted(first).acknowledged_by, AcknowledgedBy::Queue);
    assert_eq!(accepted(second).acknowledged_by, AcknowledgedBy::Broker);
    sim.app.tries.ended().await;
    sim.sink.delay(Duration::ZERO);
    let cancel = accepted(sim.alert(&key, alert("D", "Actual", "Cancel", &["A"])).await);
    assert_eq!(cancel.acknowledged_by, AcknowledgedBy::Queue, "the first is still queued");
}

/// R2: a probe that the queue has overtaken is a probe all the same; its late acknowledgement closes the breaker.
#[tokio::test(start_paused = true)]
async fn r2_a_probe_that_the_queue_has_overtaken_closes_the_breaker() {
    let sim = Simulated::new(13);
    let key = sim.sender("butte").await;
    sim.open_breaker(Lane::Critical);
    tokio::time::sleep(Duration::from_secs(2)).await;
    sim.sink.delay(Duration::from_millis(200));
    assert_eq!(accepted(sim.alert(&key, actual("A")).await).acknowledged_by, AcknowledgedBy::Queue);
    assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::HalfOpen);
    sim.app.tries.ended().await;
    assert_eq!(sim.app.breakers.lane(Lane::Critical).state(), BreakerState::Closed);
    assert_eq!(messages(&sim).len(), 1);
}

/// R2: the broker is away for 80 s or for a quarter of an hour, with an alert in the queue and bulk behind it. The alert goes
/// out within 2 s of its return and the bulk lane soon after, also when no alert is there to tell; nothing was received in vain.
#[tokio::test(start_paused = true)]
async fn r2_the_broker_is_back_and_alerts_are_out_within_two_seconds() {
    for (away, with_alert) in [(80, true), (80, false), (81, true), (82, true), (83, true), (900, true), (900, false)] {
        let sim = Simulated::new(24);
        let key = sim.sender("butte").await;
        sim.sink.pause(Duration::from_secs(away));
        sim.ingest("firms_test", 0..500).await;
        let back = Instant::now() + Duration::from_secs(away);
        if with_alert {
            accepted(sim.alert(&key, actual("A")).await);
        }
        let delivering = sim.deliver();
        tokio::time::sleep_until(back + Duration::from_secs(2)).await;
        let told = format!("{away} s, alert {with_alert}");
        assert_eq!(messages(&sim).len(), usize::from(with_alert), "{told}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(sim.stored("wildfire-nasa-firms").len(), 500, "{told}");
        sim.drained(Duration::from_secs(5)).await;
        delivering.stop().await;
        assert_eq!(sim.app.tally.totals().redelivered, 0, "{told}: a receive in vain");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_an_alert_delivered_after_it_expired_says_so() {
    let sim = Simulated::new(14);
    let key = sim.sender("butte").await;
    let mut timely: serde_json::Value = serde_json::from_str(&actual("A")).unwrap();
    timely["expires"] = "2026-09-01T13:00:00-07:00".into();
    let mut late = timely.clone();
    late["id"] = "B".into();
    accepted(sim.alert(&key, timely.to_string()).await);
    sim.sink.outage(true);
    accepted(sim.alert(&key, late.to_string()).await);
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    sim.sink.outage(false);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(90)).await;
    delivering.stop().await;
    let expired =
        |record: &Outgoing| record.headers().iter().any(|(name, value)| *name == "expired" && value == "true");
    assert_eq!(sim.stored(TOPIC).iter().map(expired).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn e4_drills_go_the_normal_way_and_never_reach_the_critical_topic() {
    let sim = Simulated::new(9);
    let key = sim.sender("butte").await;
    for (n, status) in ["Test", "Exercise", "System", "Draft"].into_iter().enumerate() {
        let one = accepted(sim.alert(&key, alert(&format!("D{n}"), status, "Alert", &[])).await);
        assert_eq!((one.drill, one.topic.as_str()), (true, "wildfire-alert-drills"), "{status}");
    }
    assert_eq!((sim.sink.sends(), sim.queued().await), (vec![], 4));
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(5)).await;
    delivering.stop().await;
    assert_eq!((sim.stored(TOPIC).len(), sim.stored("wildfire-alert-drills").len()), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn e5_an_unreadable_alert_over_mqtt_is_a_dead_letter_and_not_tried_again() {
    let sim = Simulated::new(14);
    let output = |topic: &str, payload: &str| json!({ "topic": topic, "payload": payload, "principal": "cert" });
    for event in [output("alerts/bad id", "e30="), output("alerts/evacuation_alert_butte", "no base64!")] {
        let answer = streammanager_functions::express::handle(&sim.app, event).await.unwrap();
        assert_eq!(answer.response, json!({ "accepted": [], "rejected": [] }));
    }
    let error = json!({ "topic": "alerts/bad id", "base64OriginalPayload": "W10=", "clientId": "c" }).to_string();
    let retried = json!({ "Records": [{ "messageId": "m", "body": error }] });
    let answer = streammanager_functions::express::handle(&sim.app, retried).await.unwrap();
    assert_eq!(answer.response, json!({ "batchItemFailures": [] }));
    let letters = dead::list(&*sim.app.store, None, 10).await.unwrap().letters;
    let mut raw = Vec::new();
    for letter in &letters {
        raw.push(dead::raw(&*sim.app.blobs, letter).await.unwrap().unwrap());
    }
    raw.sort();
    assert_eq!(raw, ["[]", "no base64!", "{}"]);
}

/// E2: the call that keeps express warm failed. It is no alert: nobody is told of one, and it does not come again.
#[tokio::test(start_paused = true)]
async fn e2_a_failed_call_that_keeps_warm_is_gone_from_the_retry_queue() {
    let sim = Simulated::new(15);
    let failed =
        json!({ "requestContext": { "condition": "RetriesExhausted" }, "requestPayload": { "keep_warm": true } });
    let retried = json!({ "Records": [{ "messageId": "m", "body": failed.to_string() }] });
    let answer = streammanager_functions::express::handle(&sim.app, retried).await.unwrap();
    assert_eq!(answer.response, json!({ "batchItemFailures": [] }));
    assert!(answer.confirmations.is_empty() && dead::list(&*sim.app.store, None, 1).await.unwrap().letters.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a6_an_oversized_body_is_refused_before_anything_reads_it() {
    let sim = Simulated::new(11);
    let key = sim.sender("butte").await;
    match sim.alert(&key, " ".repeat(ALERT_BYTES + 1)).await {
        Verdict::Refused(Refusal { why: Why::NotData, reject, .. }) => assert_eq!(reject.reason, Reason::TooLarge),
        other => panic!("{other:?}"),
    }
}
