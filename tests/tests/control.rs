//! The control API behind its door: what nobody signed is refused, whatever the door in front of it did, and the audit log
//! names whoever signed [A5].

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::breaker::{SinkBreakers, shared};
use streammanager::control::{caller, connectors};
use streammanager::limits::{BREAKER_FAILURES, CONNECTOR_FRESH};
use streammanager::record::{ConnectorId, StreamId};
use streammanager::schedule::file::StreamsFile;
use streammanager::schedule::streams;
use streammanager::settings::Settings;
use streammanager::sink::{Kind, Lane};
use streammanager_functions::{control, watch};
use streammanager_host::template;
use streammanager_tests::simulated::Simulated;
use streammanager_tests::upstream::FIRMS_STREAM;

/// An event of this route, signed or not.
fn event(route: &str, id: &str, signed_by: Option<&str>, body: &Value) -> Value {
    let (method, path) = route.split_once(' ').unwrap();
    let mut event = json!({
        "version": "2.0", "routeKey": route, "rawPath": path.replace("{id}", id), "pathParameters": { "id": id },
        "requestContext": { "http": { "method": method, "path": path, "sourceIp": "203.0.113.7" } },
        "body": body.to_string(), "isBase64Encoded": false,
    });
    if let Some(arn) = signed_by {
        event["requestContext"]["authorizer"] = json!({ "iam": { "userArn": arn } });
    }
    event
}

async fn status(sim: &Simulated, event: Value) -> u64 {
    control::handle(&sim.app, event).await.unwrap()["statusCode"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a5_no_operator_route_answers_a_request_that_nobody_signed() {
    let sim = Simulated::new(1);
    for route in control::ROUTES.iter().filter(|route| route.auth == control::Auth::Operator) {
        let key = format!("{} {}", route.method, route.path);
        assert_eq!(status(&sim, event(&key, "modis", None, &json!({}))).await, 403, "{key}");
        assert_ne!(status(&sim, event(&key, "modis", Some("arn:a"), &json!({}))).await, 403, "{key}");
    }
    for unknown in ["GET /nowhere", "PATCH /streams", "$default"] {
        let mut event = event("GET /status", "x", Some("arn:a"), &json!({}));
        event["routeKey"] = unknown.into();
        assert_eq!(status(&sim, event).await, 404, "{unknown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a5_the_audit_log_names_whoever_signed() {
    let sim = Simulated::new(2);
    let registration = json!({ "id": "butte", "tenant": "t", "sources": ["evacuation_alert_butte"], "critical": true });
    let arn = "arn:aws:iam::123456789012:user/operator";
    assert_eq!(status(&sim, event("POST /connectors", "", Some(arn), &registration)).await, 201);
    let log = control::handle(&sim.app, event("GET /audit", "", Some(arn), &json!({}))).await.unwrap();
    let log = log["body"].as_str().unwrap();
    assert!(log.contains(&format!("\"operator {arn} at 203.0.113.7\"")), "{log}");
}

/// What a client sends without looking at it is refused whole, with all that is wrong.
#[tokio::test(start_paused = true)]
async fn l1_a_streams_file_is_refused_with_all_its_mistakes() {
    let sim = Simulated::new(4);
    let stream = |id: &str, interval: &str| json!({ "id": id, "source_id": "noaa_alerts", "connector": "nws_alerts", "tenant": "t", "interval": interval, "config": { "areas": ["CA"] } });
    let file = json!({ "version": 1, "streams": [stream("a b", "60s"), stream("one", "1s"), stream("two", "60s")] });
    let answer = control::handle(&sim.app, event("PUT /streams", "", Some("arn:a"), &file)).await.unwrap();
    let said = answer["body"].as_str().unwrap();
    assert!(
        answer["statusCode"] == 422 && said.contains("streams[0].id: ") && said.contains("streams[1].interval: "),
        "{said}"
    );
    assert!(streams::list(&*sim.app.store).await.unwrap().is_empty());
}

/// A3, M4: for how long a connector is known without the store, and how soon a key that was revoked elsewhere ends, does not
/// depend on how the host's clock is set.
#[tokio::test(start_paused = true)]
async fn m4_who_is_known_does_not_depend_on_how_the_clock_is_set() {
    const DAYS: i64 = 24 * 3_600;
    for step in [15 * DAYS, -15 * DAYS] {
        let sim = Simulated::new(3);
        let key = sim.sender("butte").await;
        let known = async || caller::by_key(&sim.app, &key).await.map(|caller| caller.connector().is_some()).ok();
        let named = async || {
            let named = caller::by_principal(&sim.app, "butte").await;
            named.map(|caller| caller.connector().is_some()).ok()
        };
        assert_eq!((known().await, named().await), (Some(true), Some(true)));
        sim.store_faults.outage(true);
        sim.wall.step(step);
        assert_eq!((known().await, named().await), (Some(true), Some(true)), "the store is away, {step} s");
        sim.store_faults.outage(false);
        tokio::time::advance(CONNECTOR_FRESH).await;
        assert_eq!(known().await, Some(true));
        sim.wall.step(-step);
        let elsewhere = App { admission: Default::default(), ..sim.app.clone() };
        connectors::revoke(&elsewhere, &ConnectorId::new("butte").unwrap(), "a test").await.unwrap();
        tokio::time::advance(CONNECTOR_FRESH).await;
        assert_eq!(known().await, Some(false), "revoked elsewhere, {step} s");
        sim.store_faults.outage(true);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_ne!(known().await, Some(true), "nobody is known for ever without the store");
    }
}

/// O3: a stream is watched from its registration on, also one whose every poll dies before it is known to have begun.
#[tokio::test(start_paused = true)]
async fn o3_a_stream_that_never_had_a_good_poll_is_overdue_ten_minutes_after_it_was_started() {
    let sim = Simulated::new(7);
    streams::apply(&sim.app, &StreamsFile::parse(FIRMS_STREAM).unwrap(), false).await.unwrap();
    let overdue = async || {
        watch::look(&sim.app).await.unwrap().iter().find(|gauge| gauge.name == "stream_polls_overdue").unwrap().value
    };
    let minutes = |n: u64| tokio::time::advance(Duration::from_secs(60 * n));
    minutes(10).await;
    assert_eq!(overdue().await, 0.0);
    minutes(1).await;
    assert_eq!(overdue().await, 1.0);

    let id = StreamId::new("snpp").unwrap();
    streams::set_started(&sim.app, &id, false, "a test").await.unwrap();
    minutes(60).await;
    assert_eq!(overdue().await, 0.0, "nobody waits for a stream that is stopped");
    streams::set_started(&sim.app, &id, true, "a test").await.unwrap();
    minutes(10).await;
    assert_eq!(overdue().await, 0.0, "it has its time again");
    streams::set_started(&sim.app, &id, true, "a test").await.unwrap();
    minutes(1).await;
    assert_eq!(overdue().await, 1.0, "starting what runs already changes nothing");
}

/// O5, O1: what a stack says of itself, from what its processes share.
#[tokio::test(start_paused = true)]
async fn o5_the_control_api_says_whether_a_stack_takes_in_and_delivers() {
    for sink in Kind::ALL {
        told_by_a_stack(sink).await;
    }
}

async fn told_by_a_stack(sink: Kind) {
    let mut sim = Simulated::new(8);
    let parameters = [("Sink", sink.name()), ("Network", "created")].map(|(name, value)| (name.into(), value.into()));
    let template = template::built_in(&parameters.into()).unwrap();
    let told = Settings::parse(&template.function("ControlFunction").unwrap().environment).unwrap();
    sim.app.settings = Arc::new(Settings { sink: told.sink, ..Settings::clone(&sim.app.settings) });
    streams::apply(&sim.app, &StreamsFile::parse(FIRMS_STREAM).unwrap(), false).await.unwrap();
    let asked = async |path: &str| {
        let event = event(&format!("GET {path}"), "", Some("arn:aws:iam::123456789012:user/operator"), &Value::Null);
        let answer = control::handle(&sim.app, event).await.unwrap();
        (answer["statusCode"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
    };
    let ready = async || {
        let (status, body) = asked("/health/ready").await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, well) = ready().await;
    assert_eq!((status, &well["ready"], &well["delivery"]["ready"]), (200, &json!(true), &json!(true)), "{well}");
    assert_eq!(well["delivery"]["sink"], sink.name(), "{well}");
    let (_, status) = asked("/status").await;
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["sink"], sink.name(), "{status}");
    let (status, metrics) = asked("/metrics").await;
    assert_eq!(status, 200, "{metrics}");
    for line in ["stream_active_streams 1", "stream_queue_depth{priority=\"LOW\"} 0", "stream_polls_overdue 0"] {
        assert!(metrics.lines().any(|told| told == line), "{line} is missing: {metrics}");
    }

    // Another process finds the brokers away.
    let delivering = SinkBreakers::default();
    for _ in 0..BREAKER_FAILURES {
        delivering.lane(Lane::Bulk).record(false);
    }
    shared::exchange(&delivering, &*sim.app.store, &sim.app.clock).await;
    let (status, away) = ready().await;
    assert_eq!((status, &away["delivery"]["ready"]), (200, &json!(false)), "what comes is taken in: {away}");
    assert_eq!(away["delivery"]["bulk"], "the circuit breaker is open", "{away}");
    assert!(asked("/metrics").await.1.contains("stream_circuit_breaker_state{lane=\"bulk\"} 1"));

    sim.store_faults.outage(true);
    let (status, lost) = ready().await;
    assert_eq!((status, &lost["ready"], &lost["delivery"]["ready"]), (503, &json!(false), &json!(false)), "{lost}");
    assert_eq!(asked("/metrics").await.0, 503);
}
