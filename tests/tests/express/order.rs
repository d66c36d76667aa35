//! Order where the transport has none, as AWS's asynchronous invocations [E4]: whatever order a thread's messages come in, and
//! whichever instance takes them, none overtakes one that it refers to.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::express::AcknowledgedBy;
use streammanager::express::turns::Turns;
use streammanager::faults::Fault;
use streammanager::faults::sink::Fault as SinkFault;
use streammanager::record::{Outgoing, SourceId};
use streammanager::sink::Lane;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::simulated::{Simulated, send_alert};
use tokio::time::{Instant, sleep};

use super::{TOPIC, accepted};

/// Another instance: it shares the backends and nothing that a process remembers.
pub(super) fn instance(of: &Simulated) -> App {
    App { recent: Arc::default(), admission: Arc::default(), ..of.app.clone() }
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let insert = |order: &Vec<usize>, at: usize| [&order[..at], &[of - 1], &order[at..]].concat();
    shorter.iter().flat_map(|order| (0..of).map(move |at| insert(order, at))).collect()
}

fn value(record: &Outgoing) -> Value {
    serde_json::from_slice(&record.value).unwrap()
}

fn identifiers(sim: &Simulated) -> Vec<String> {
    sim.stored(TOPIC).iter().map(|record| value(record)["data"]["identifier"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn e4_every_interleaving_of_a_thread_of_four_is_published_in_its_order() {
    let thread = [
        actual("A"),
        alert("B", "Actual", "Update", &["A"]),
        alert("C", "Actual", "Update", &["B"]),
        alert("D", "Actual", "Cancel", &["A", "B", "C"]),
    ];
    let orders = permutations(thread.len());
    assert_eq!(orders.len(), 24);
    for (n, order) in orders.iter().enumerate() {
        // At once, closely one after another, and as far apart as a wait allows; from a quick broker, and one so slow that
        // the queue takes most of them.
        for apart in [0, 20, 450] {
            for slow in [0, 5, 80] {
                let sim = Simulated::new(n as u64);
                let key = sim.sender("butte").await;
                sim.sink.delay(Duration::from_millis(slow));
                let (delivering, instances) = (sim.deliver(), [sim.app.clone(), instance(&sim)]);
                let sending = order.iter().enumerate().map(|(place, &message)| {
                    let (app, key, body) = (instances[place % 2].clone(), key.clone(), thread[message].clone());
                    async move {
                        sleep(Duration::from_millis(apart * place as u64)).await;
                        accepted(send_alert(&app, &key, body).await)
                    }
                });
                let told = futures::future::join_all(sending).await;
                assert!(told.iter().all(|one| one.warnings.is_empty()), "{order:?}: {told:?}");
                sim.drained(Duration::from_secs(90)).await;
                delivering.stop().await;
                let mut published = identifiers(&sim);
                published.dedup();
                assert_eq!(published, ["A", "B", "C", "D"], "{order:?}, {apart} ms apart, broker {slow} ms");
            }
        }
    }
}

/// While the store is away nobody knows of a thread's other messages in the queue; those in hand still go one by one.
#[tokio::test(start_paused = true)]
async fn e4_what_waits_of_a_thread_goes_one_by_one_also_when_the_first_is_tried_again() {
    let sim = Simulated::new(31);
    let key = sim.sender("butte").await;
    sim.open_breaker(Lane::Critical);
    for message in [actual("A"), alert("B", "Actual", "Cancel", &["A"])] {
        assert_eq!(accepted(sim.alert(&key, message).await).acknowledged_by, AcknowledgedBy::Queue);
    }
    sim.app.breakers.lane(Lane::Critical).record(true);
    sim.store_faults.outage(true);
    sim.sink.delay(Duration::from_millis(20));
    sim.sink.script([SinkFault::Retry]);
    let delivering = sim.deliver();
    sim.drained(Duration::from_secs(90)).await;
    delivering.stop().await;
    assert_eq!(identifiers(&sim), ["A", "B"]);
}

#[tokio::test(start_paused = true)]
async fn e4_a_message_whose_alert_does_not_come_goes_on_after_two_seconds_and_says_so() {
    let sim = Simulated::new(31);
    let key = sim.sender("butte").await;
    let started = Instant::now();
    let cancel = accepted(sim.alert(&key, alert("B", "Actual", "Cancel", &["A"])).await);
    let waited = started.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_millis(2_200)).contains(&waited), "{waited:?}");
    assert_eq!(cancel.acknowledged_by, AcknowledgedBy::Broker);
    let warning = "references: names a message that was not published before this one";
    assert_eq!(cancel.warnings, [warning]);
    let quality = &value(&sim.stored(TOPIC)[0])["quality"][0];
    assert_eq!((&quality["field"], &quality["raw"]), (&json!("references"), &json!("test@example.org,A")));

    // What was sent an hour before is not on its way any more.
    sleep(Duration::from_secs(3_600)).await;
    let started = Instant::now();
    let late = accepted(sim.alert(&key, alert("C", "Actual", "Update", &["A"])).await);
    assert_eq!((started.elapsed(), late.warnings), (Duration::ZERO, vec![warning.to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn e4_with_the_state_store_away_no_alert_waits() {
    let sim = Simulated::new(32);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, actual("X")).await);
    sim.store_faults.outage(true);
    let started = Instant::now();
    let cancel = accepted(sim.alert(&key, alert("B", "Actual", "Cancel", &["A"])).await);
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    let fields: Vec<&str> = cancel.warnings.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["references", "revision"], "both are best effort, and marked");
}

#[tokio::test(start_paused = true)]
async fn e2_a_state_store_that_hangs_holds_no_alert_up() {
    let sim = Simulated::new(33);
    let key = sim.sender("butte").await;
    accepted(sim.alert(&key, actual("X")).await);
    sim.store_faults.script([Fault::Late(Duration::from_secs(15)); 200]);
    for (name, open, by) in [("A", false, AcknowledgedBy::Broker), ("B", true, AcknowledgedBy::Queue)] {
        if open {
            sim.open_breaker(Lane::Critical);
        }
        let started = Instant::now();
        assert_eq!(accepted(sim.alert(&key, actual(name)).await).acknowledged_by, by);
        assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn s12_what_others_wrote_of_an_alert_is_not_overwritten_by_who_could_not_look() {
    let sim = Simulated::new(34);
    let key = sim.sender("butte").await;
    let changed = |text| actual("X").replace("Test Canyon", text);
    for text in ["one", "two", "three"] {
        accepted(sim.alert(&key, changed(text)).await);
    }
    let other = instance(&sim);
    accepted(send_alert(&other, &key, actual("warm")).await);
    // Its first look comes too late, the others in time.
    sim.store_faults.script([Fault::Late(Duration::from_millis(60))]);
    let blind = accepted(send_alert(&other, &key, changed("four")).await);
    assert_eq!(blind.revision, 3, "published as 0 first, and again once it could look");
    assert_eq!(accepted(sim.alert(&key, changed("five")).await).revision, 4);
    assert!(accepted(sim.alert(&key, changed("three")).await).duplicate);
}

/// One connection's alerts, each taken by a task of its own in the order of its turns: as the emulator does.
async fn connection(sim: &Simulated, key: &str, bodies: &[String]) {
    let source = SourceId::new("evacuation_alert_butte").unwrap();
    let (mut turns, mut works) = (Turns::default(), Vec::new());
    for body in bodies {
        let mut turn = turns.take_alerts(&sim.app, "one connection", &source, &body.clone().into()).await;
        let (app, key, body) = (sim.app.clone(), key.to_owned(), body.clone());
        works.push(tokio::spawn(async move {
            turn.comes().await;
            accepted(send_alert(&app, &key, body).await);
        }));
    }
    for work in works {
        work.await.unwrap();
    }
}

/// A Cancel of what nobody has waits for 2 s, and with it only what may be of its thread: an alert that begins another thread
/// goes out at once, and what follows that one stays behind it.
#[tokio::test(start_paused = true)]
async fn e4_a_cancel_that_waits_holds_up_no_alert_that_begins_another_thread() {
    let sim = Simulated::new(71);
    let key = sim.sender("butte").await;
    sim.sink.delay(Duration::from_millis(5));
    let started = Instant::now();
    let bodies = [
        alert("LOST-1", "Actual", "Cancel", &["LOST-0"]),
        actual("FIRE-0"),
        actual("FLOOD-0"),
        alert("FIRE-1", "Actual", "Update", &["FIRE-0"]),
        // Its own first message again, changed: it is known by then, or under way.
        actual("FIRE-0").replace("Immediate", "Warning"),
    ];
    let sending = connection(&sim, &key, &bodies);
    tokio::pin!(sending);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut sending).await;
    assert!(early.is_err(), "the Cancel waits");
    let mut at_once = identifiers(&sim);
    at_once.sort();
    assert_eq!(at_once, ["FIRE-0", "FLOOD-0"]);
    sending.await;
    assert_eq!(identifiers(&sim)[2..], ["LOST-1", "FIRE-1", "FIRE-0"]);
    assert!(started.elapsed() < Duration::from_secs(4), "one wait for all");
}

/// However one connection mixes two threads, with revisions and an orphan among them, each thread is published in the order in
/// which the connection sent it, unless a message comes before what it refers to.
#[tokio::test(start_paused = true)]
async fn e4_however_a_connection_mixes_its_threads_each_keeps_its_order() {
    let fire = [
        actual("A0"),
        alert("A1", "Actual", "Update", &["A0"]),
        actual("A0").replace("Immediate", "Warning"),
        alert("A2", "Actual", "Cancel", &["A1"]),
    ];
    let other = [actual("B0"), alert("B1", "Actual", "Cancel", &["B0"]), alert("C1", "Actual", "Cancel", &["C0"])];
    for mask in 0..1_u32 << (fire.len() + other.len()) {
        if mask.count_ones() as usize != other.len() {
            continue;
        }
        let (mut ours, mut others) = (fire.iter(), other.iter());
        let mixed: Vec<String> = (0..fire.len() + other.len())
            .map(|n| if mask >> n & 1 == 1 { others.next() } else { ours.next() }.unwrap().clone())
            .collect();
        let sim = Simulated::new(u64::from(mask));
        let key = sim.sender("butte").await;
        connection(&sim, &key, &mixed).await;
        let published = identifiers(&sim);
        let of = |letter: &str| published.iter().filter(|id| id.starts_with(letter)).cloned().collect::<Vec<_>>();
        assert_eq!(
            (of("A"), of("B")),
            (vec!["A0".into(), "A1".into(), "A0".into(), "A2".into()], vec!["B0".into(), "B1".into()]),
            "{mask:b}"
        );
    }
}
