//! The eight real Lambda binaries over the Runtime API, with AWS's own events, on an AWS endpoint that is not ours and on
//! Kafka: one whole story, confirmations over AWS IoT, handover by lease, partial batch failures, and bad starts.

#[path = "lambda/events.rs"]
mod events;
#[path = "lambda/outside.rs"]
mod outside;
#[path = "lambda/rie.rs"]
mod rie;
#[path = "lambda/stack.rs"]
mod stack;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use outside::Mood;
use serde_json::{Value, json};
use stack::{REGION, Stack};
use streammanager::limits::DELIVER_MARGIN;
use streammanager_tests::bodies::{actual, alert};
use streammanager_tests::kafka_clients::target::{Embedded, folder};
use streammanager_tests::lambda_runtime::{Answer, Function};
use streammanager_tests::system::{Start, System};
use streammanager_tests::{binary, kafka, kafka_authorities, skip};

const FUNCTIONS: [&str; 8] = ["schedule", "batch", "realtime", "stream", "express", "deliver", "redrive", "control"];

fn reading(sensor: u32) -> Value {
    let reading = json!({
        "sensor_index": sensor, "latitude": 40.7, "longitude": -122.9, "last_seen": 1_780_000_000, "humidity": 42,
        "pm2.5_atm": 12.5,
    });
    events::rule_output(&format!("sensors/purpleair/{sensor}/state"), "", &reading.to_string())
}

fn failures(ids: &[&str]) -> Answer {
    let failed: Vec<Value> = ids.iter().map(|id| json!({ "itemIdentifier": id })).collect();
    Ok(json!({ "batchItemFailures": failed }))
}

/// An HTTP answer's status and body.
fn http(answer: Answer) -> (u64, Value) {
    let answer = answer.unwrap();
    (answer["statusCode"].as_u64().unwrap(), serde_json::from_str(answer["body"].as_str().unwrap()).unwrap())
}

/// Registers the connector `butte`, known over MQTT by its certificate; gives its key.
async fn register(control: &Function) -> String {
    let connector = json!({
        "id": "butte", "tenant": "test", "sources": ["evacuation_alert_butte"], "critical": true, "principal": "cert-butte",
    });
    let (status, answer) =
        http(control.invoke(events::signed("POST", "/connectors", Some(&connector.to_string()))).await);
    assert_eq!(status, 201, "{answer}");
    answer["key"].as_str().unwrap().to_owned()
}

/// Delivers for `time` under a deadline that is DELIVER_MARGIN later: at the latest then it has to have answered.
async fn deliver(function: &Function, time: Duration) -> Answer {
    function.invoke_within(events::schedule(), DELIVER_MARGIN + time).await
}

fn texts<'v>(values: &'v [Value], field: &str) -> BTreeSet<&'v str> {
    values.iter().map(|value| value[field].as_str().unwrap()).collect()
}

/// The keys below which the template lets a function write.
fn policies(function: &str) -> BTreeSet<String> {
    let template = std::fs::read_to_string(streammanager_tests::workspace().join("infra/template.yaml")).unwrap();
    let section = |id: &str| {
        let begin = template.find(&format!("\n  {id}:\n")).unwrap();
        template[begin + 1..].split("\n\n").next().unwrap().to_owned()
    };
    let own = section(&format!("{}{}Function", function[..1].to_uppercase(), &function[1..]));
    let shared =
        own.lines().filter_map(|line| line.trim().strip_prefix("- !Ref ")).filter(|id| id.ends_with("StatePolicy"));
    let sections: Vec<String> = shared.map(section).chain([own.clone()]).collect();
    let named = sections.iter().flat_map(|section| section.split("dynamodb:LeadingKeys:").skip(1)).flat_map(|named| {
        let (line, below) = named.split_once('\n').unwrap_or((named, ""));
        let listed = line.trim().trim_matches(['[', ']']).split(", ").filter(|key| !key.is_empty());
        listed.chain(below.lines().map_while(|line| line.strip_prefix("                  - ")))
    });
    named.map(str::to_owned).collect()
}

/// Below which partitions each function has written.
#[derive(Default)]
struct Writes {
    before: BTreeMap<(String, String), String>,
    of: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Writes {
    /// All that has changed since the last look is this function's.
    async fn are(&mut self, function: &'static str, stack: &Stack) {
        let now = stack.state().await;
        let changed = now.iter().filter(|(key, item)| self.before.get(*key) != Some(*item)).map(|(key, _)| key);
        let gone = self.before.keys().filter(|key| !now.contains_key(*key));
        let partitions = changed.chain(gone).map(|(partition, _)| partition.clone());
        self.of.entry(function).or_default().extend(partitions);
        self.before = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story() {
    let Some(stack) = Stack::create("the Lambda binaries' story").await else { return };
    let mut functions = BTreeMap::new();
    for name in FUNCTIONS {
        functions.insert(name, stack.start(name).await);
    }
    let function = |name: &str| &functions[name];
    let mut writes = Writes::default();

    // Before any record: deliver makes the topics [K2].
    assert_eq!(deliver(function("deliver"), Duration::from_secs(1)).await, Ok(json!({ "outcome": "delivered" })));
    assert_eq!(stack.partitions("wildfire-nasa-firms").await, 12);
    writes.are("deliver", &stack).await;

    let key = register(function("control")).await;
    let stream = |id: &str, source: &str, interval: &str, product: &str| {
        json!({
            "id": id, "source_id": source, "connector": "firms", "tenant": "test", "interval": interval,
            "config": { "product": product, "area": [-124.5, 32.5, -114.1, 42.1], "days": 1 },
        })
    };
    let streams = json!({ "version": 1, "streams": [
        stream("viirs", "firms_viirs_snpp", "60s", "VIIRS_SNPP_NRT"),
        stream("modis", "firms_modis_terra", "2h", "MODIS_NRT"),
    ]});
    let apply = events::signed("PUT", "/streams?prune=true", Some(&streams.to_string()));
    let (status, diff) = http(function("control").invoke(apply).await);
    assert_eq!((status, &diff["added"]), (200, &json!(["viirs", "modis"])), "{diff}");
    writes.are("control", &stack).await;

    // M1, M4: one tick now and more to come for the minute's stream, one for the two hours' stream.
    let planned = function("schedule").invoke(events::schedule()).await.unwrap();
    assert!(planned["ticks"].as_u64().unwrap() >= 3, "{planned}");
    writes.are("schedule", &stack).await;
    for (queue, name, product) in
        [("RealtimeTicks", "realtime", "VIIRS_SNPP_NRT"), ("BatchTicks", "batch", "MODIS_NRT")]
    {
        let answer = stack.one_message(queue, function(name)).await.expect("a tick that is due");
        assert_eq!(answer, failures(&[]), "{}", function(name).log());
        assert_eq!(stack.firms.calls(product), 1, "{}", function(name).log());
        writes.are(name, &stack).await;
    }
    assert!(stack.waiting("High").await >= 2, "detections wait in their tier's queue");
    let (_, listed) = http(function("control").invoke(events::signed("GET", "/streams", None)).await);
    let modes: BTreeMap<&str, (&str, u64)> = listed["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            (s["stream_id"].as_str().unwrap(), (s["mode"].as_str().unwrap(), s["records_processed"].as_u64().unwrap()))
        })
        .collect();
    assert_eq!(modes, BTreeMap::from([("modis", ("batch", 2)), ("viirs", ("realtime", 3))]), "{listed}");

    let cut = events::rule_output("sensors/purpleair/3/state", "", "{\"cut");
    let batch = events::kinesis(&[("4959", reading(1)), ("4960", cut), ("4961", reading(2))]);
    assert_eq!(function("stream").invoke(batch).await, failures(&[]), "content never fails a batch [Q1]");
    writes.are("stream", &stack).await;

    let (status, answer) =
        http(function("express").invoke(events::http("POST", "/alerts", Some(&key), Some(&actual("A1")))).await);
    assert_eq!((status, &answer["accepted"][0]["topic"]), (200, &json!("wildfire-critical-alerts")), "{answer}");
    assert!(stack.iot.published().is_empty(), "HTTP has its answer [E5]");
    let (status, _) =
        http(function("express").invoke(events::http("POST", "/alerts", Some("smk_butte:x"), Some("{}"))).await);
    assert_eq!(status, 401);
    let over_mqtt = events::rule_output("alerts/evacuation_alert_butte", "cert-butte", &actual("A2"));
    let answer = function("express").invoke(over_mqtt).await.unwrap();
    let event = answer["accepted"][0]["event_id"].as_str().unwrap();
    let published = stack.iot.published();
    assert_eq!(published.len(), 1, "{}", function("express").log());
    assert_eq!(published[0].topic, format!("alerts/ack/{event}"));

    writes.are("express", &stack).await;

    assert_eq!(deliver(function("deliver"), Duration::from_secs(8)).await, Ok(json!({ "outcome": "delivered" })));
    writes.are("deliver", &stack).await;
    let detections = stack.values("wildfire-nasa-firms").await;
    assert_eq!(detections.len(), 5, "three VIIRS and two MODIS rows: {}", function("deliver").log());
    assert_eq!(
        texts(&detections, "source_id"),
        BTreeSet::from(["firms_viirs_snpp", "firms_modis_terra", "firms_modis_aqua"]),
        "the row's satellite decides [S1]"
    );
    assert_eq!(stack.values("wildfire-iot-sensors").await.len(), 2);
    let alerts = stack.values("wildfire-critical-alerts").await;
    assert_eq!(texts(&alerts, "event_id").len(), 2, "{alerts:?}");
    assert_eq!(texts(&alerts, "producer_id"), BTreeSet::from(["streammanager/0.1.0/dev"]));
    let announced = stack.values("wildfire-dead-letters").await;
    assert_eq!(texts(&announced, "reason"), BTreeSet::from(["bad_json"]));
    for queue in ["Critical", "High", "Normal", "Low"] {
        assert_eq!(stack.waiting(queue).await, 0, "{queue}");
    }

    let report = function("redrive").invoke(events::schedule()).await.unwrap();
    assert_eq!(report["letters"], 1, "{report}");
    assert_eq!(report["patterns"][0]["reason"], "bad_json", "{report}");
    writes.are("redrive", &stack).await;
    let (_, letters) = http(function("control").invoke(events::signed("GET", "/dead-letters", None)).await);
    assert_eq!(letters["dead_letters"][0]["source"], "iot_purpleair", "{letters}");
    let (_, audit) = http(function("control").invoke(events::signed("GET", "/audit", None)).await);
    let by: Vec<&Value> = audit["audit"].as_array().unwrap().iter().map(|entry| &entry["actor"]).collect();
    assert!(by.contains(&&json!("operator arn:aws:iam::123456789012:user/operator at 203.0.113.7")), "{audit}");

    // O1: what was counted, in the log of whoever counted it.
    for (name, told) in [
        ("realtime", r#""stream_records_processed_total":3"#),
        ("realtime", r#""source_id":"firms_viirs_snpp""#),
        ("stream", r#""stream_batch_size":"#),
        ("express", r#""priority":"CRITICAL","stream_latency_seconds":"#),
        ("deliver", r#""priority":"HIGH","stream_latency_seconds":"#),
        ("deliver", r#""stream_kafka_connection_status":1.0"#),
        ("schedule", r#""stream_active_streams":2.0"#),
        ("schedule", r#""priority":"LOW","stream_queue_depth":"#),
    ] {
        let log = function(name).log();
        assert!(log.contains(told), "{name} does not tell {told}: {log}");
    }
    let (status, ready) = http(function("control").invoke(events::signed("GET", "/health/ready", None)).await);
    assert_eq!((status, &ready["delivery"]["ready"]), (200, &json!(true)), "{ready}");

    // O3: what the template's alarms look at.
    let (watched, counted) = (function("schedule").log(), function("redrive").log());
    assert!(
        watched.contains(r#""stream_circuit_breaker_state":0.0"#) && watched.contains(r#""stream_polls_overdue":0.0"#)
    );
    assert!(counted.contains(r#""stream_dlq_size":1.0"#) && counted.contains("CloudWatchMetrics"), "{counted}");
    assert_eq!(function("express").invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": true })));

    // A6: each function writes below the keys that its own policies name.
    for (name, partitions) in writes.of {
        let policies = policies(name);
        for partition in &partitions {
            let matches = |pattern: &String| match pattern.strip_suffix('*') {
                Some(begin) => partition.starts_with(begin),
                None => partition == pattern,
            };
            assert!(policies.iter().any(matches), "no policy lets {name} write {partition}: {policies:?}");
        }
    }

    for (name, function) in functions {
        let log = function.log();
        assert!(!log.contains(outside::MAP_KEY) && !log.contains(&key), "{name} logs a secret [A6]: {log}");
        let status = function.terminate().await;
        assert!(!status.success(), "{name} ends on SIGTERM: {status}");
    }
}

/// One runs, one stands by, any other leaves at once; when the first dies the standby goes on with what is queued.
#[tokio::test(flavor = "multi_thread")]
async fn deliver_is_handed_over_by_lease_when_its_holder_is_terminated() {
    let Some(stack) = Stack::create("handover of deliver").await else { return };
    let (first, second, third) =
        (stack.start("deliver").await, stack.start("deliver").await, stack.start("deliver").await);
    let running = first.begin(events::schedule(), Duration::from_secs(900)).await;
    stack.wait_for_item("leases", "deliver/duty").await;
    let standing_by = second.begin(events::schedule(), DELIVER_MARGIN + Duration::from_secs(15)).await;
    stack.wait_for_item("leases", "deliver/standby").await;
    assert_eq!(third.invoke(events::schedule()).await, Ok(json!({ "outcome": "surplus" })), "{}", third.log());

    first.terminate().await;
    assert_eq!(running.answer().await, None, "a terminated function answers nothing");
    // Its long polls may still take a message, which then comes back only when its visibility ends [Q5].
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stream = stack.start("stream").await;
    assert_eq!(stream.invoke(events::kinesis(&[("1", reading(1))])).await, failures(&[]));
    assert_eq!(standing_by.answer().await, Some(Ok(json!({ "outcome": "delivered" }))), "{}", second.log());
    assert_eq!(stack.waiting("Normal").await, 0, "{}", second.log());
    assert_eq!(stack.values("wildfire-iot-sensors").await.len(), 1, "{}", second.log());
}

/// D2: two versions of the real function over one table. The new one takes the duty while the old one still has most of its time,
/// and what is queued goes out once.
#[tokio::test(flavor = "multi_thread")]
async fn d2_deliver_is_handed_over_to_another_version_at_once() {
    let Some(stack) = Stack::create("handover of deliver to another version").await else { return };
    let version = async |version: &str| stack.start_with("deliver", &[("AWS_LAMBDA_FUNCTION_VERSION", version)]).await;
    let (old, standby, new) = (version("1").await, version("1").await, version("2").await);
    let running = old.begin(events::schedule(), Duration::from_secs(900)).await;
    stack.wait_for_item("leases", "deliver/duty").await;
    let standing_by = standby.begin(events::schedule(), Duration::from_secs(900)).await;
    stack.wait_for_item("leases", "deliver/standby").await;
    let stream = stack.start("stream").await;
    assert_eq!(stream.invoke(events::kinesis(&[("1", reading(1))])).await, failures(&[]));

    let replacing = new.begin(events::schedule(), DELIVER_MARGIN + Duration::from_secs(20)).await;
    assert_eq!(running.answer().await, Some(Ok(json!({ "outcome": "handed_over" }))), "{}", old.log());
    assert_eq!(standing_by.answer().await, Some(Ok(json!({ "outcome": "surplus" }))), "{}", standby.log());
    assert_eq!(stream.invoke(events::kinesis(&[("2", reading(2))])).await, failures(&[]));
    assert_eq!(replacing.answer().await, Some(Ok(json!({ "outcome": "delivered" }))), "{}", new.log());
    assert_eq!(stack.waiting("Normal").await, 0, "{}", new.log());
    assert_eq!(stack.values("wildfire-iot-sensors").await.len(), 2, "{}", new.log());
}

/// D2: what a deployment asks each new version before anything else: it starts, and does nothing yet.
#[tokio::test(flavor = "multi_thread")]
async fn d2_every_function_says_that_it_starts_and_does_nothing() {
    let Some(stack) = Stack::create("the check before a deployment").await else { return };
    for name in FUNCTIONS {
        let function = stack.start(name).await;
        let answer = function.invoke(json!({ "keep_warm": true })).await;
        assert_eq!(answer, Ok(json!({ "warm": true })), "{name}: {}", function.log());
    }
    assert_eq!(stack.state().await, BTreeMap::new(), "nothing was written");
}

/// D2: a version that cannot work is known by it, although Lambda counts no error: the check is told, and the canary's alarm finds a
/// line of the version for each call.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_version_that_fails_its_work_says_so() {
    let Some(stack) = Stack::create("work that fails behind a good invocation").await else { return };
    let version = [("AWS_LAMBDA_FUNCTION_NAME", "p-express"), ("AWS_LAMBDA_FUNCTION_VERSION", "7")];
    let of_version = |function: &Function| -> Vec<Value> {
        let lines = function.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("stream_calls_failed").is_some()).collect()
    };
    // An invocation tells what it counted when it ends, a moment after its answer.
    let told_of = async |function: &Function, want: usize| {
        for _ in 0..200 {
            if of_version(function).len() >= want {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        of_version(function)
    };
    let express = stack.start_with("express", &[&version[..], &[("STATE_TABLE", "another")]].concat()).await;
    assert_eq!(express.invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": false })), "{}", express.log());
    let alert = events::http("POST", "/alerts", Some("smk_butte:x"), Some(&actual("A1")));
    assert_eq!(http(express.invoke(alert).await).0, 503, "{}", express.log());
    let told = told_of(&express, 2).await;
    let of_stage = stack.environment("express").into_iter().find(|(name, _)| name == "METRICS_NAMESPACE").unwrap().1;
    let figures = json!([{ "Namespace": of_stage, "Dimensions": [["function", "version"], ["function"]],
        "Metrics": [{ "Name": "stream_calls_failed" }] }]);
    assert_eq!(told.len(), 2, "{}", express.log());
    for line in told {
        assert_eq!(line["_aws"]["CloudWatchMetrics"], figures);
        assert_eq!((&line["function"], &line["version"]), (&json!("p-express"), &json!("7")));
        assert_eq!(line["stream_calls_failed"], 1);
    }
    let gone =
        stack.environment("express").into_iter().find(|(name, _)| name == "CRITICAL_QUEUE_URL").unwrap().1 + "-gone";
    let express = stack.start_with("express", &[&version[..], &[("CRITICAL_QUEUE_URL", &gone)]].concat()).await;
    assert_eq!(express.invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": false })), "{}", express.log());

    let realtime = stack.start("realtime").await;
    let ticks = events::sqs("ticks", &[("m-1", "no tick".into())]);
    assert_eq!(realtime.invoke(ticks).await, failures(&["m-1"]));
    assert_eq!(told_of(&realtime, 1).await.len(), 1, "{}", realtime.log());
    // The second is begun when the first has told.
    for _ in 0..2 {
        assert_eq!(realtime.invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": true })));
    }
    assert_eq!(of_version(&realtime).len(), 1, "what went well is not told: {}", realtime.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_failed_comes_back() {
    let Some(stack) = Stack::create("partial batch failures").await else { return };
    let tick = json!({ "stream": "nobody", "due_at": "2026-01-01T00:00:00Z" }).to_string();
    for name in ["realtime", "batch", "stream"] {
        let function = stack.start(name).await;
        let batch = events::sqs("ticks", &[("m-1", tick.clone()), ("m-2", "no tick".into()), ("m-3", tick.clone())]);
        assert_eq!(function.invoke(batch).await, failures(&["m-2"]), "{name}: {}", function.log());
        let unknown = function.invoke(json!({ "hello": "world" })).await.unwrap_err();
        assert_eq!(unknown["errorType"], "UnknownEvent", "{name}: {unknown}");
        assert!(unknown["errorMessage"].as_str().unwrap().contains("Records"), "{name}: {unknown}");
    }

    // The shard waits at the first record that could not be stored, and is done with those before it.
    let away =
        stack.environment("stream").into_iter().find(|(name, _)| name == "NORMAL_QUEUE_URL").unwrap().1 + "-gone";
    let stream = stack.start_with("stream", &[("NORMAL_QUEUE_URL", &away)]).await;
    let cut = events::rule_output("sensors/smoke/9/state", "", "{\"cut");
    let batch = events::kinesis(&[("4959", cut), ("4960", reading(1)), ("4961", reading(2))]);
    assert_eq!(stream.invoke(batch.clone()).await, failures(&["4960"]), "{}", stream.log());
    let stream = stack.start("stream").await;
    assert_eq!(stream.invoke(batch).await, failures(&[]), "{}", stream.log());
    assert_eq!(stack.waiting("Normal").await, 1, "the readings are packed into one envelope");
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_alerts_over_mqtt_are_confirmed_through_aws_iot() {
    let Some(stack) = Stack::create("confirmations through AWS IoT").await else { return };
    let control = stack.start("control").await;
    register(&control).await;
    let express = stack.start("express").await;
    let topic = "alerts/evacuation_alert_butte";

    let answer =
        express.invoke(events::rule_output(topic, "cert-butte", &alert("A1", "Test", "Alert", &[]))).await.unwrap();
    let accepted = &answer["accepted"][0];
    let published = stack.iot.published();
    assert_eq!(published.len(), 1, "{}", express.log());
    let event = accepted["event_id"].as_str().unwrap();
    assert_eq!(published[0].topic, format!("alerts/ack/{event}"));
    assert_eq!(
        published[0].raw_path,
        format!("/topics/alerts%2Fack%2F{event}"),
        "one path segment, as AWS documents it"
    );
    assert_eq!(published[0].qos.as_deref(), Some("1"));
    assert_eq!(published[0].payload, accepted.to_string());
    let signed = &published[0].authorization;
    assert!(signed.starts_with("AWS4-HMAC-SHA256 ") && signed.contains(&format!("/{REGION}/iot")), "{signed}");

    // Nobody who is refused is confirmed.
    for (topic, principal) in [(topic, "cert-nobody"), ("alerts/evacuation_alert_other", "cert-butte")] {
        let answer =
            express.invoke(events::rule_output(topic, principal, &alert("A2", "Test", "Alert", &[]))).await.unwrap();
        assert_eq!(answer["accepted"], json!([]));
        assert_eq!(answer["rejected"][0]["error"], "unauthorised_source", "{answer}");
    }
    let confirmed = || {
        let published = stack.iot.published().into_iter().map(|published| published.topic);
        published.filter(|topic| topic.starts_with("alerts/ack/")).collect::<Vec<_>>()
    };
    assert_eq!(confirmed().len(), 1);

    // From the retry queue: what the function failed on is confirmed now, what the rule could not hand over names nobody.
    let retried = |id: &str| {
        events::on_failure(events::rule_output(topic, "cert-butte", &alert(id, "Test", "Alert", &[]))).to_string()
    };
    let unproved = events::rule_error(topic, &alert("A4", "Test", "Alert", &[])).to_string();
    let messages = [("m-1", retried("A3")), ("m-2", "{}".into()), ("m-3", unproved), ("m-4", retried("A5"))];
    let answer = express.invoke(events::sqs("express-retry", &messages)).await;
    assert_eq!(answer, failures(&["m-2"]), "{}", express.log());
    let confirmed = confirmed();
    let topics: BTreeSet<&String> = confirmed.iter().collect();
    assert_eq!((confirmed.len(), topics.len()), (3, 3), "A1, A3 and A5: {topics:?}");
    let (_, letters) = http(control.invoke(events::signed("GET", "/dead-letters", None)).await);
    let kept: Vec<&Value> = letters["dead_letters"].as_array().unwrap().iter().map(|l| &l["reason"]).collect();
    assert!(kept.iter().all(|reason| **reason == "unauthorised_source"), "{letters}");
    let unproved = letters.to_string().contains("error action, which names no principal");
    assert!(unproved, "an operator finds the alert that nobody can vouch for: {letters}");

    let unknown = express.invoke(events::rule_output("other/topic", "cert-butte", "{}")).await.unwrap_err();
    assert_eq!(unknown["errorType"], "UnknownEvent", "{unknown}");
}

/// Stages share an account's MQTT broker: each takes what lies below its own name, and answers there.
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_stage_takes_and_confirms_alerts_below_its_own_name() {
    let Some(stack) = Stack::create("a stage's MQTT topics").await else { return };
    let control = stack.start("control").await;
    register(&control).await;
    let express = stack.start_with("express", &[("MQTT_PREFIX", "dev/")]).await;
    let of = |topic: &str, id: &str| events::rule_output(topic, "cert-butte", &alert(id, "Test", "Alert", &[]));

    let answer = express.invoke(of("dev/alerts/evacuation_alert_butte", "S1")).await.unwrap();
    let event = answer["accepted"][0]["event_id"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let published = stack.iot.published();
    assert_eq!(published[0].topic, format!("dev/alerts/ack/{event}"), "{}", express.log());
    let retried = events::on_failure(of("dev/alerts/evacuation_alert_butte", "S2")).to_string();
    let unproved = events::rule_error("dev/alerts/evacuation_alert_butte", &alert("S3", "Test", "Alert", &[]));
    let messages = [("m-1", retried), ("m-2", unproved.to_string())];
    assert_eq!(express.invoke(events::sqs("express-retry", &messages)).await, failures(&[]), "{}", express.log());
    assert_eq!(stack.iot.published().len(), 2, "{}", express.log());

    for other in ["alerts/evacuation_alert_butte", "test/alerts/evacuation_alert_butte"] {
        let refused = express.invoke(of(other, "S4")).await.unwrap_err();
        assert_eq!(refused["errorType"], "UnknownEvent", "another stage's alert: {refused}");
    }

    let drills = stack.waiting("Normal").await;
    let stream = stack.start_with("stream", &[("MQTT_PREFIX", "dev/")]).await;
    let mut output = reading(1);
    output["topic"] = json!("dev/sensors/purpleair/1/state");
    assert_eq!(stream.invoke(events::kinesis(&[("1", output)])).await, failures(&[]), "{}", stream.log());
    assert_eq!(stack.waiting("Normal").await, drills + 1, "{}", stream.log());
    let (_, letters) = http(control.invoke(events::signed("GET", "/dead-letters", None)).await);
    let reasons: Vec<&Value> = letters["dead_letters"].as_array().unwrap().iter().map(|l| &l["reason"]).collect();
    assert_eq!(reasons, ["unauthorised_source"], "only the alert that nobody vouches for: {letters}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e5_a_confirmation_that_cannot_be_published_fails_no_alert() {
    for mood in [Mood::Forbids, Mood::Hangs] {
        let Some(stack) = Stack::with_iot("confirmations that fail", mood).await else { return };
        register(&stack.start("control").await).await;
        let express = stack.start("express").await;
        let event =
            events::rule_output("alerts/evacuation_alert_butte", "cert-butte", &alert("A1", "Test", "Alert", &[]));
        // Under the deadline that the template sets.
        let answer = express.invoke_within(event, Duration::from_secs(15)).await.unwrap();
        assert_eq!(answer["accepted"][0]["drill"], true, "{answer}");
        assert!(!stack.iot.published().is_empty(), "it was tried");
        let log = express.log();
        assert!(log.contains("the confirmation of an accepted alert was not published"), "{log}");
    }
}

/// The topic and the bytes are the emulator's.
#[tokio::test(flavor = "multi_thread")]
async fn e5_the_emulator_confirms_with_the_same_bytes() {
    if Command::new("mosquitto_sub").arg("--help").output().is_err() {
        return skip("confirmations of the emulator", "mosquitto_sub is not installed");
    }
    let Some(stack) = Stack::create("confirmations of the emulator and of AWS").await else { return };
    register(&stack.start("control").await).await;
    let express = stack.start("express").await;
    let event = events::rule_output("alerts/evacuation_alert_butte", "cert-butte", &alert("A1", "Test", "Alert", &[]));
    express.invoke(event).await.unwrap();
    let published = stack.iot.published();

    let folder = tempfile::tempdir().unwrap();
    let system = System::up(&Start::quiet(folder.path()));
    let key = system.sender("butte").await;
    let port = system.mqtt.to_string();
    let mut subscriber = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-u", "butte", "-P", &key])
        .args(["-t", "alerts/ack/+", "-C", "1", "-W", "30", "-F", "%t %p"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It does not say when it has subscribed: the alert is sent until it hears of it.
    while subscriber.try_wait().unwrap().is_none() {
        let sent = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-u", "butte", "-P", &key])
            .args(["-t", "alerts/evacuation_alert_butte", "-m", &alert("A1", "Test", "Alert", &[])])
            .status();
        assert!(sent.unwrap().success());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let confirmed = String::from_utf8(subscriber.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(
        confirmed.trim_end(),
        format!("{} {}", published[0].topic, String::from_utf8_lossy(&published[0].payload))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_environment_is_named_and_ends_the_initialisation() {
    // Nothing of it is called: the environment is judged first.
    let nowhere = format!("127.0.0.1:{}", streammanager_tests::free_port());
    let template = stack::template(&[("KafkaBrokers", &nowhere), ("KafkaSecurity", "plaintext")]);
    let mut judged = 0;
    for function in &template.functions {
        let mut good = function.environment.clone();
        good.insert("AWS_REGION".into(), REGION.into());
        good.insert("AWS_ENDPOINT_URL".into(), format!("http://{nowhere}"));
        let queues = good.keys().filter(|name| name.ends_with("_QUEUE_URL")).map(String::as_str);
        let mut needed: Vec<&str> = queues.chain(["STATE_TABLE", "BLOBS_BUCKET"]).collect();
        assert_eq!(needed.len(), 10);
        let sends = ["express", "deliver"].contains(&function.binary.as_str());
        if sends {
            needed.push("KAFKA_BROKERS");
        }
        let mut bad: Vec<(&str, Option<&str>)> = needed.iter().map(|name| (*name, None)).collect();
        // Lambda itself sets the region.
        bad.extend([("FIRMS_BASE_URL", Some("ftp://firms")), ("STATE_TABLE", Some(" ")), ("AWS_REGION", Some(""))]);
        bad.push(("SINK", Some("file")));
        if sends {
            bad.push(("KAFKA_SECURITY", Some("ssl")));
        }
        if function.binary == "express" {
            bad.push(("IOT_ENDPOINT", Some("ftp://iot")));
        }
        for (name, value) in bad {
            let mut environment = good.clone();
            match value {
                Some(value) => environment.insert(name.into(), value.into()),
                None => environment.remove(name),
            };
            let environment: Vec<_> = environment.into_iter().collect();
            let Err(ended) = Function::start(&function.binary, &environment).await else {
                panic!("{} starts without a good {name}", function.binary)
            };
            assert_eq!(ended.status.code(), Some(1), "{} without {name}: {ended:?}", function.binary);
            let (kind, reported) = ended.reported.expect("POST /runtime/init/error");
            assert_eq!((kind.as_str(), &reported["errorType"]), ("Runtime.InitError", &json!("InitError")));
            let message = reported["errorMessage"].as_str().unwrap();
            assert!(message.starts_with(&format!("{name}: ")), "{} without {name}: {message}", function.binary);
            assert!(ended.log.lines().count() == 1 && ended.log.contains(name), "one line says it: {}", ended.log);
            judged += 1;
        }
    }
    assert_eq!(judged, 8 * 14 + 2 * 2 + 1);
}

/// K1: what a function of a stack on Kinesis cannot be told is named; the address of Kafka is none of its business.
#[tokio::test(flavor = "multi_thread")]
async fn k1_a_bad_environment_for_kinesis_is_named_and_a_good_one_needs_no_brokers() {
    let nowhere = format!("http://127.0.0.1:{}", streammanager_tests::free_port());
    let parameters = [("Sink", "kinesis"), ("StackPrefix", "k")].map(|(name, value)| (name.into(), value.into()));
    let template = streammanager_host::template::built_in(&parameters.into()).unwrap();
    for binary in ["express", "deliver"] {
        let function = template.functions.iter().find(|function| function.binary == binary).unwrap();
        let with = |name: &str, value: &str| {
            let mut environment = function.environment.clone();
            let told =
                [("AWS_REGION", REGION), ("AWS_ENDPOINT_URL", &nowhere), ("IOT_ENDPOINT", &nowhere), (name, value)];
            environment.extend(told.map(|(name, value)| (name.to_owned(), value.to_owned())));
            environment.into_iter().collect::<Vec<_>>()
        };
        for (name, value) in [("TOPIC_PREFIX", "a b"), ("CONSUMER_GROUPS", "desk")] {
            let ended = Function::start(binary, &with(name, value)).await.err().expect("it starts");
            let (_, reported) = ended.reported.expect("POST /runtime/init/error");
            let message = reported["errorMessage"].as_str().unwrap();
            assert!(message.starts_with(&format!("{name}: ")), "{binary}: {message}");
        }
        Function::start(binary, &with("STAGE", "dev")).await.unwrap_or_else(|e| panic!("{binary}: {e:#?}"));
    }
}

/// K1, A6: the user of the brokers comes out of Secrets Manager, and nowhere else does its password stand.
#[tokio::test(flavor = "multi_thread")]
async fn k1_express_logs_in_with_the_user_of_a_secret() {
    const WHAT: &str = "SCRAM with a user out of Secrets Manager";
    let (Some(plain), Some(authorities)) = (kafka(), kafka_authorities()) else {
        return skip(WHAT, "STREAMMANAGER_TEST_KAFKA or STREAMMANAGER_TEST_KAFKA_AUTHORITIES is not set");
    };
    let Some(stack) = Stack::create(WHAT).await else { return };
    let port: u16 = plain.rsplit_once(':').unwrap().1.parse().unwrap();
    let (guarded, ca) = (format!("localhost:{}", port + 4), authorities.join("ca.pem"));
    let user = stack.secret("user", r#"{"username": "lookout", "password": "smoke-column"}"#).await;
    let told = |secret| {
        [
            ("KAFKA_BROKERS", guarded.as_str()),
            ("KAFKA_SECURITY", "scram"),
            ("KAFKA_CA_FILE", ca.to_str().unwrap()),
            ("KAFKA_SECRET_ARN", secret),
        ]
    };
    let express = stack.start_with("express", &told(user.as_str())).await;
    assert_eq!(express.invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": true })), "{}", express.log());
    assert!(!express.log().contains("smoke-column"), "{}", express.log());

    let unreadable = stack.secret("plain", "smoke-column").await;
    for (secret, says) in
        [(unreadable.as_str(), "is not JSON with username and password"), ("nowhere", "cannot be read")]
    {
        let mut environment: BTreeMap<String, String> = stack.environment("express").into_iter().collect();
        environment.extend(told(secret).map(|(name, value)| (name.to_owned(), value.to_owned())));
        let environment: Vec<_> = environment.into_iter().collect();
        let Err(ended) = Function::start("express", &environment).await else { panic!("starts with {secret}") };
        let (_, reported) = ended.reported.expect("POST /runtime/init/error");
        let message = reported["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("KAFKA_SECRET_ARN: ") && message.contains(says), "{message}");
        assert!(!message.contains("smoke-column") && !ended.log.contains("smoke-column"), "{message}");
    }
}

/// K1: the image of a function may bring no certificate authorities.
#[tokio::test(flavor = "multi_thread")]
async fn k1_every_function_starts_with_tls_where_its_host_has_no_authorities() {
    let nowhere = format!("127.0.0.1:{}", streammanager_tests::free_port());
    let template = stack::template(&[("KafkaBrokers", &nowhere), ("KafkaSecurity", "tls")]);
    for function in &template.functions {
        let mut environment = function.environment.clone();
        let aws = format!("http://{nowhere}");
        for (name, value) in [
            ("AWS_REGION", REGION),
            ("AWS_ENDPOINT_URL", &aws),
            ("SSL_CERT_FILE", "/nowhere/ca.pem"),
            ("SSL_CERT_DIR", "/nowhere"),
        ] {
            environment.insert(name.into(), value.into());
        }
        let environment: Vec<_> = environment.into_iter().collect();
        let started = Function::start(&function.binary, &environment).await;
        let started = started.unwrap_or_else(|ended| panic!("{} does not start: {ended:#?}", function.binary));
        assert!(started.log().contains("those of Mozilla, which are built in"), "{}", started.log());
    }
}

/// K1, A6: both lanes trust whom the host trusts, and who runs takes up a user that was rotated.
#[tokio::test(flavor = "multi_thread")]
async fn k1_a_rotated_user_of_the_brokers_is_taken_up_by_functions_that_run() {
    const WHAT: &str = "SCRAM with a user that is rotated";
    let (Some(plain), Some(authorities)) = (kafka(), kafka_authorities()) else {
        return skip(WHAT, "STREAMMANAGER_TEST_KAFKA or STREAMMANAGER_TEST_KAFKA_AUTHORITIES is not set");
    };
    let Some(stack) = Stack::create(WHAT).await else { return };
    let port: u16 = plain.rsplit_once(':').unwrap().1.parse().unwrap();
    let (guarded, ca) = (format!("localhost:{}", port + 4), authorities.join("ca.pem"));
    let user = stack.secret("user", r#"{"username": "lookout", "password": "smoke-screen"}"#).await;
    let told = [
        ("KAFKA_BROKERS", guarded.as_str()),
        ("KAFKA_SECURITY", "scram"),
        ("KAFKA_SECRET_ARN", user.as_str()),
        ("SSL_CERT_FILE", ca.to_str().unwrap()),
    ];
    deliver(&stack.start("deliver").await, Duration::from_secs(1)).await.unwrap();
    let key = register(&stack.start("control").await).await;
    let (express, delivers) = (stack.start_with("express", &told).await, stack.start_with("deliver", &told).await);
    let send = async |id: &str| {
        let (status, answer) =
            http(express.invoke(events::http("POST", "/alerts", Some(&key), Some(&actual(id)))).await);
        assert!(status < 300, "{answer}");
        answer["accepted"][0]["acknowledged_by"].as_str().unwrap().to_owned()
    };
    assert_eq!(send("A0").await, "queue", "nobody is let in with this password: {}", express.log());

    stack.rotate(&user, r#"{"username": "lookout", "password": "smoke-column"}"#).await;
    let mut sent = 1;
    while send(&format!("A{sent}")).await != "broker" {
        assert!(sent < 40, "the rotated password is not taken up: {}", express.log());
        tokio::time::sleep(Duration::from_secs(1)).await;
        sent += 1;
    }
    let readings = events::kinesis(&[("1", reading(1))]);
    assert_eq!(stack.start("stream").await.invoke(readings).await, failures(&[]));
    let delivered = deliver(&delivers, Duration::from_secs(30)).await;
    assert_eq!(delivered, Ok(json!({ "outcome": "delivered" })), "{}", delivers.log());
    assert_eq!(stack.values("wildfire-iot-sensors").await.len(), 1, "{}", delivers.log());
    let alerts = stack.values("wildfire-critical-alerts").await;
    assert_eq!(texts(&alerts, "event_id").len(), sent + 1, "{}", delivers.log());
    for function in [&express, &delivers] {
        assert!(!function.log().contains("smoke-"), "{}", function.log());
    }
}

/// K1, A6: the credentials that Lambda gives to a role sign what lets it in; there is no secret.
#[tokio::test(flavor = "multi_thread")]
async fn k1_functions_log_in_at_the_brokers_by_their_role() {
    const WHAT: &str = "functions that log in by their role";
    let (Some(plain), Some(authorities)) = (kafka(), kafka_authorities()) else {
        return skip(WHAT, "STREAMMANAGER_TEST_KAFKA or STREAMMANAGER_TEST_KAFKA_AUTHORITIES is not set");
    };
    let Some(stack) = Stack::create(WHAT).await else { return };
    let port: u16 = plain.rsplit_once(':').unwrap().1.parse().unwrap();
    let (guarded, ca) = (format!("localhost:{}", port + 4), authorities.join("ca.pem"));
    let by = |secret_key| {
        [
            ("KAFKA_BROKERS", guarded.as_str()),
            ("KAFKA_SECURITY", "iam"),
            ("KAFKA_CA_FILE", ca.to_str().unwrap()),
            ("AWS_ACCESS_KEY_ID", "AKIDLOOKOUT"),
            ("AWS_SECRET_ACCESS_KEY", secret_key),
            ("AWS_SESSION_TOKEN", "smoke/session+token=="),
        ]
    };
    let key = register(&stack.start("control").await).await;
    let delivers = stack.start_with("deliver", &by("smoke-column")).await;
    // It makes the topics.
    deliver(&delivers, Duration::from_secs(10)).await.unwrap();
    let role = stack.start_with("express", &by("smoke-column")).await;
    let stranger = stack.start_with("express", &by("smoke-screen")).await;
    let send = async |express: &Function, id: &str| {
        let (status, answer) =
            http(express.invoke(events::http("POST", "/alerts", Some(&key), Some(&actual(id)))).await);
        assert!(status < 300, "{answer}");
        answer["accepted"][0]["acknowledged_by"].as_str().unwrap().to_owned()
    };
    assert_eq!(send(&stranger, "S").await, "queue", "{}", stranger.log());
    let warm = stranger.invoke(json!({ "keep_warm": true })).await;
    assert_ne!(warm, Ok(json!({ "warm": true })), "a version whose role is not let in gets no call");
    let mut sent = 1;
    while send(&role, &format!("A{sent}")).await != "broker" {
        assert!(sent < 40, "the role is not let in: {}", role.log());
        sent += 1;
    }
    assert_eq!(role.invoke(json!({ "keep_warm": true })).await, Ok(json!({ "warm": true })), "{}", role.log());
    let readings = events::kinesis(&[("1", reading(1))]);
    assert_eq!(stack.start("stream").await.invoke(readings).await, failures(&[]));
    let delivered = deliver(&delivers, Duration::from_secs(30)).await;
    assert_eq!(delivered, Ok(json!({ "outcome": "delivered" })), "{}", delivers.log());
    assert_eq!(stack.values("wildfire-iot-sensors").await.len(), 1, "{}", delivers.log());
    assert_eq!(
        texts(&stack.values("wildfire-critical-alerts").await, "event_id").len(),
        sent + 1,
        "{}",
        delivers.log()
    );
    for function in [&role, &stranger, &delivers] {
        assert!(!function.log().contains("smoke"), "{}", function.log());
    }
}

/// A6: the key of a service is read again after the service has refused it.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_rotated_key_of_a_service_is_taken_up_by_a_function_that_runs() {
    let Some(stack) = Stack::create("the rotated key of a service").await else { return };
    stack.rotate(stack.map_key_secret(), "a-key-of-last-year").await;
    let (control, realtime) = (stack.start("control").await, stack.start("realtime").await);
    let streams = json!({ "version": 1, "streams": [{
        "id": "viirs", "source_id": "firms_viirs_snpp", "connector": "firms", "tenant": "test", "interval": "30s",
        "config": { "product": "VIIRS_SNPP_NRT", "area": [-124.5, 32.5, -114.1, 42.1], "days": 1 },
    }]});
    let (status, diff) = http(control.invoke(events::signed("PUT", "/streams", Some(&streams.to_string()))).await);
    assert_eq!(status, 200, "{diff}");
    let poll = async || {
        let tick = json!({ "stream": "viirs", "due_at": jiff::Timestamp::now().to_string() }).to_string();
        assert_eq!(realtime.invoke(events::sqs("ticks", &[("m-1", tick)])).await, failures(&[]), "{}", realtime.log());
        let (_, listed) = http(control.invoke(events::signed("GET", "/streams", None)).await);
        listed["streams"][0]["last_error"].clone()
    };
    let error = poll().await;
    assert!(error.as_str().unwrap().contains("check the FIRMS map key"), "{error}");
    assert_eq!(stack.firms.calls("VIIRS_SNPP_NRT"), 0);

    stack.rotate(stack.map_key_secret(), outside::MAP_KEY).await;
    // Read again, but not in a row.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(poll().await, Value::Null, "{}", realtime.log());
    assert_eq!(stack.firms.calls("VIIRS_SNPP_NRT"), 1, "{}", realtime.log());
}

/// Between invocations Lambda gives no time, and meanwhile whoever was connected hangs up: the AWS endpoint for idleness, the
/// brokers because they were restarted.
#[tokio::test(flavor = "multi_thread")]
async fn l3_a_function_that_was_frozen_goes_on_without_the_connections_that_it_had() {
    let Some(stack) = Stack::create("a frozen function").await else { return };
    let brokers_folder = folder();
    let brokers = Embedded::start(brokers_folder.path()).await;
    let told = [("KAFKA_BROKERS", brokers.target.address.clone())];
    let told = told.each_ref().map(|(name, value)| (*name, value.as_str()));
    deliver(&stack.start_with("deliver", &told).await, Duration::from_secs(1)).await.unwrap();
    let key = register(&stack.start("control").await).await;
    let express = stack.start_with("express", &told).await;
    let send = async |id: &str| {
        let (status, answer) =
            http(express.invoke(events::http("POST", "/alerts", Some(&key), Some(&actual(id)))).await);
        assert_eq!(status, 200, "{answer}: {}", express.log());
        answer["accepted"][0]["acknowledged_by"].as_str().unwrap().to_owned()
    };
    let by_broker = async |begin: &str| {
        for number in 0..40 {
            if send(&format!("{begin}{number}")).await == "broker" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the brokers are not reached: {}", express.log());
    };
    by_broker("A").await;
    express.environment().idle().await;
    express.environment().freeze();
    let brokers = brokers.restart(brokers_folder.path()).await;
    // The AWS endpoint closes what is idle for five seconds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    express.environment().thaw();
    by_broker("B").await;
    assert!(!express.environment().has_ended());
    drop(brokers);
}

/// F7, on binaries that are not optimised: that each figure is there, not that it meets its goal.
#[test]
fn f7_every_lambda_binary_is_measured() {
    let measured = Command::new(binary()).args(["bench", "lambda", "--starts", "1", "--json"]).output();
    let measured = measured.unwrap();
    let said = String::from_utf8_lossy(&measured.stdout).into_owned();
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said} {measured:?}"));
    for name in FUNCTIONS {
        for figure in ["size_mb", "init_ms", "resident_mb"] {
            assert!(
                said["lambda"][name][figure].as_f64().is_some_and(|figure| figure > 1.0),
                "{name} {figure}: {said}"
            );
        }
    }
    assert_eq!(said["goals"], json!({ "size_mb": 15.0, "init_ms": 50.0, "resident_mb": 64.0 }));
    assert_eq!(measured.status.code(), Some(if said["met"] == true { 0 } else { 1 }));
    let nowhere = tempfile::tempdir().unwrap();
    let mut missing = Command::new(binary());
    missing.args(["bench", "lambda", "--functions"]).arg(nowhere.path());
    let missing = missing.output().unwrap();
    let says = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        missing.status.code() == Some(1) && says.contains("neither batch nor batch/bootstrap; build the"),
        "{says}"
    );
}
