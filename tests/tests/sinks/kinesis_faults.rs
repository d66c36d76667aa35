//! What only the sink on Kinesis promises: how records are told, batches, order through records that fail by themselves, lanes apart.
//! The faults come from an endpoint that fails what it is told to fail.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::aws::{Aws, KinesisSink};
use streammanager::error::Reason;
use streammanager::record::{Outgoing, Topic};
use streammanager::sink::conformance::{TestSink, assert_acked, record};
use streammanager::sink::{Lane, Sent, Sink, TopicState};
use streammanager_tests::endpoints::Endpoint;
use tokio::net::TcpListener;

use crate::kinesis::KinesisWorld;

/// What the endpoint does with a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Takes,
    /// Fails it alone, with this code.
    Fails(&'static str),
    /// Takes it, and says that it lies before everything else.
    TakesBefore,
    /// Fails the request that it is in, with this code.
    Breaks(&'static str),
    /// Does not answer the request that it is in.
    Hangs,
}

/// By the number of the request and the record's `n`.
type Plan = fn(usize, u64) -> Does;

struct Told {
    plan: Plan,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Records and bytes of each request.
    requests: Vec<(usize, usize)>,
    from: Vec<SocketAddr>,
    stored: Vec<u64>,
}

impl Told {
    async fn start(plan: Plan) -> (Arc<Told>, KinesisSink) {
        let told = Arc::new(Told { plan, seen: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(told.clone())
            .into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (told, Aws::connect(Some(&url), "us-west-2").await.sink("told-").unwrap())
    }

    fn stored(&self) -> Vec<u64> {
        self.seen.lock().stored.clone()
    }

    fn requests(&self) -> Vec<usize> {
        self.seen.lock().requests.iter().map(|(records, _)| *records).collect()
    }
}

async fn answer(
    State(told): State<Arc<Told>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    if headers["x-amz-target"] == "Kinesis_20131202.DescribeStreamSummary" {
        told.seen.lock().from.push(from);
        return (StatusCode::BAD_REQUEST, json!({ "__type": "ResourceNotFoundException" }).to_string());
    }
    assert_eq!(headers["x-amz-target"], "Kinesis_20131202.PutRecords");
    let request: Value = serde_json::from_slice(&body).unwrap();
    let numbers: Vec<(u64, usize)> = request["Records"].as_array().unwrap().iter().map(number).collect();
    let mut results = Vec::new();
    {
        let mut seen = told.seen.lock();
        let at = seen.requests.len();
        seen.requests.push((numbers.len(), numbers.iter().map(|(_, bytes)| bytes).sum()));
        seen.from.push(from);
        let does: Vec<Does> = numbers.iter().map(|(n, _)| (told.plan)(at, *n)).collect();
        if let Some(Does::Breaks(code)) = does.iter().find(|does| matches!(does, Does::Breaks(_))) {
            return (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": "as told" }).to_string());
        }
        if !does.contains(&Does::Hangs) {
            for ((n, _), does) in numbers.iter().zip(does) {
                if let Does::Fails(code) = does {
                    results.push(json!({ "ErrorCode": code, "ErrorMessage": "as told" }));
                    continue;
                }
                seen.stored.push(*n);
                let place = if does == Does::TakesBefore { 0 } else { seen.stored.len() };
                let number = format!("4954511524349098501828006771497314458218006259324{place:07}");
                results.push(json!({ "SequenceNumber": number, "ShardId": "shardId-000000000000" }));
            }
        }
    }
    if results.is_empty() {
        std::future::pending::<()>().await;
    }
    (StatusCode::OK, json!({ "FailedRecordCount": 0, "Records": results }).to_string())
}

/// A record's number and bytes.
fn number(record: &Value) -> (u64, usize) {
    let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
    let event: Value = serde_json::from_slice(&data).unwrap();
    (event["data"]["n"].as_u64().unwrap(), data.len() + record["PartitionKey"].as_str().unwrap().len())
}

/// Records with these keys, numbered.
fn keyed(keys: &[&str]) -> Vec<Outgoing> {
    let keyed = |(n, key): (usize, &&str)| Outgoing { key: (*key).to_owned(), ..record("told", n) };
    keys.iter().enumerate().map(keyed).collect()
}

const THROTTLED: Does = Does::Fails("ProvisionedThroughputExceededException");

#[tokio::test(flavor = "multi_thread")]
async fn k3_what_overtook_a_record_that_failed_is_put_again_behind_it() {
    let (told, sink) = Told::start(|at, n| if at == 0 && n == 1 { THROTTLED } else { Does::Takes }).await;
    assert_acked(&sink.send(Lane::Bulk, &keyed(&["a", "a", "b", "a", "b"])).await);
    // Once 3 was ahead of 1; whoever reads to the end has both in their order.
    assert_eq!(told.stored(), [0, 2, 3, 4, 1, 3]);

    let (told, sink) = Told::start(|at, n| if at == 0 && n == 1 { Does::TakesBefore } else { Does::Takes }).await;
    assert_acked(&sink.send(Lane::Bulk, &keyed(&["a", "a", "a", "b"])).await);
    assert_eq!(told.stored(), [0, 1, 2, 3, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_nothing_behind_a_record_that_never_succeeds_counts_as_taken() {
    for code in ["ProvisionedThroughputExceededException", "InternalFailure"] {
        let plan: Plan = match code {
            "InternalFailure" => |_, n| if n == 1 { Does::Fails("InternalFailure") } else { Does::Takes },
            _ => |_, n| if n == 1 { THROTTLED } else { Does::Takes },
        };
        let (told, sink) = Told::start(plan).await;
        let outcomes = sink.send(Lane::Bulk, &keyed(&["a", "a", "b", "a"])).await;
        for (n, outcome) in outcomes.iter().enumerate() {
            match n {
                1 | 3 => assert!(matches!(outcome, Sent::Retry(text) if text.contains(code)), "{outcome:?}"),
                _ => assert!(outcome.is_acked(), "record {n}: {outcome:?}"),
            }
        }
        let tries = told.requests().len();
        assert!((5..60).contains(&tries), "{tries} requests within one try");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_request_can_hold_is_refused_alone() {
    for plan in
        [(|_, n| if n == 37 { Does::Breaks("InvalidArgumentException") } else { Does::Takes }) as Plan, |_, n| {
            if n == 37 { Does::Breaks("ValidationException") } else { Does::Takes }
        }]
    {
        let (told, sink) = Told::start(plan).await;
        let outcomes = sink.send(Lane::Bulk, &keyed(&["a", "b", "c", "d"].repeat(25))).await;
        for (n, outcome) in outcomes.iter().enumerate() {
            match n {
                37 => assert!(matches!(outcome, Sent::Refused(Reason::SinkRefused, _)), "{outcome:?}"),
                _ => assert!(outcome.is_acked(), "record {n}: {outcome:?}"),
            }
        }
        let expected: Vec<u64> = (0..100).filter(|n| *n != 37).collect();
        assert_eq!(told.stored(), expected, "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_can_mend_is_no_fault_of_a_record() {
    let (told, sink) = Told::start(|_, _| Does::Breaks("AccessDeniedException")).await;
    let outcomes = sink.send(Lane::Critical, &keyed(&["a", "b"])).await;
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Sent::Retry(text) if text.contains("AccessDenied"))),
        "{outcomes:?}"
    );
    assert_eq!(told.requests(), [2], "another request would have been told the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_keep_to_what_kinesis_takes() {
    let (told, sink) = Told::start(|_, _| Does::Takes).await;
    let mut sent = keyed(&["a"; 1_201]);
    assert_acked(&sink.send(Lane::Bulk, &sent).await);
    assert_eq!(told.requests(), [500, 500, 201]);
    sent.truncate(12);
    for (n, record) in sent.iter_mut().enumerate() {
        record.value = format!(r#"{{"n":{n},"filler":"{}"}}"#, "x".repeat(890 * 1024)).into();
    }
    assert_acked(&sink.send(Lane::Bulk, &sent).await);
    let requests = told.seen.lock().requests[3..].to_vec();
    assert_eq!(requests.iter().map(|(records, _)| *records).collect::<Vec<_>>(), [5, 5, 2]);
    assert!(requests.iter().all(|(_, bytes)| *bytes <= 5 << 20), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_with_its_attributes_is_refused_alone() {
    let (_, sink) = Told::start(|_, _| Does::Takes).await;
    let mut sent = keyed(&["a", "a", "a"]);
    sent[1].extra.push(("references".into(), "x".repeat(1 << 20)));
    let outcomes = sink.send(Lane::Critical, &sent).await;
    assert!(matches!(&outcomes[1], Sent::Refused(Reason::TooLarge, _)), "{:?}", outcomes[1]);
    assert!(outcomes[0].is_acked() && outcomes[2].is_acked());
}

/// A try ends in time, bulk that hangs stands before no alert, and the lanes share no connection.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_that_hangs_stands_before_no_alert() {
    let (told, sink) = Told::start(|_, n| if n == 0 { Does::Hangs } else { Does::Takes }).await;
    let (bulk, alert) = (keyed(&["a"]), keyed(&["a", "b"]).split_off(1));
    let hanging = sink.send(Lane::Bulk, &bulk);
    tokio::pin!(hanging);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut hanging).await.is_err());
    assert_acked(&sink.send(Lane::Critical, &alert).await);
    match &hanging.await[..] {
        [Sent::Retry(text)] => assert!(text.contains("did not acknowledge within 2s"), "{text}"),
        other => panic!("{other:?}"),
    }
    // A connection that is free again is taken again, by its own lane.
    told.seen.lock().from.clear();
    for _ in 0..3 {
        for lane in Lane::ALL {
            assert_acked(&sink.send(lane, &alert).await);
        }
    }
    let from = told.seen.lock().from.clone();
    let lane = |at: usize| from.iter().skip(at).step_by(2).collect::<BTreeSet<_>>();
    assert!(lane(0).is_disjoint(&lane(1)), "{from:?}");
}

/// What keeps a function warm keeps the connection that an alert takes.
#[tokio::test(flavor = "multi_thread")]
async fn e2_whether_kinesis_answers_is_asked_over_the_connection_of_alerts() {
    let (told, sink) = Told::start(|_, _| Does::Takes).await;
    assert!(sink.answers().await);
    assert_acked(&sink.send(Lane::Critical, &keyed(&["a"])).await);
    assert!(sink.answers().await);
    let from = told.seen.lock().from.clone();
    assert_eq!(from.iter().collect::<BTreeSet<_>>().len(), 1, "{from:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn k5_a_record_is_an_event_with_kafkas_headers_as_attributes() {
    let Some(world) = KinesisWorld::fresh(Endpoint::Ministack, "event").await else { return };
    let sink = world.open().await;
    let long = "thread,".repeat(50);
    let mut sent = keyed(&["85283473fffffff", &long]);
    sent[1].extra.push(("msgType".into(), "Alert \"ü\"".into()));
    assert_acked(&sink.send(Lane::Critical, &sent).await);
    let mut found: Vec<_> = world.read_topic(Topic::NASA_FIRMS).await.into_iter().map(|(_, found)| found).collect();
    found.sort_by_key(|found| found.event.len());
    assert_eq!(found[0].partition_key, "85283473fffffff");
    assert_eq!(found[1].partition_key.len(), 64, "a key that Kinesis does not take goes by its hash");
    for (record, found) in sent.iter().zip(&found) {
        let mut expected = std::collections::BTreeMap::from([("partitionkey".to_owned(), record.key.clone())]);
        for (name, value) in record.headers() {
            let name = if name == "content-type" { "datacontenttype" } else { name.trim_start_matches("ce_") };
            expected.insert(name.to_lowercase(), value);
        }
        assert_eq!(found.attributes(), expected);
        assert!(found.event.ends_with(&format!("\"data\":{}}}", std::str::from_utf8(&record.value).unwrap())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_streams_are_made_kept_for_a_week_and_made_again() {
    let Some(world) = KinesisWorld::fresh(Endpoint::Ministack, "k2").await else { return };
    let sink = world.connect();
    let reports = sink.check().await.unwrap();
    for (topic, report) in Topic::ALL.iter().zip(&reports) {
        assert_eq!((report.topic.clone(), report.state), (world.named(*topic), TopicState::Created));
    }
    assert_eq!(world.retention_hours().await, Topic::ALL.iter().map(|topic| (*topic, 168)).collect());
    world.delete(Topic::NASA_FIRMS).await;
    while world.retention_hours().await.contains_key(&Topic::NASA_FIRMS) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sent = keyed(&["a"]);
    let mut tries = 0;
    while !sink.send(Lane::Critical, &sent).await[0].is_acked() {
        tries += 1;
        assert!(tries < 100, "the stream does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(tries > 0, "the stream was away");
}

/// K2: a process that ends between making a stream and keeping it for a week leaves it with a day; the next check mends it.
#[tokio::test(flavor = "multi_thread")]
async fn k2_a_stream_that_somebody_else_made_is_kept_for_a_week_too() {
    let Some(world) = KinesisWorld::fresh(Endpoint::Ministack, "k2-day").await else { return };
    world.make_for_a_day(Topic::WEATHER).await;
    assert_eq!(world.retention_hours().await, [(Topic::WEATHER, 24)].into());
    let reports = world.connect().check().await.unwrap();
    let weather = reports.iter().find(|report| report.topic == world.named(Topic::WEATHER)).unwrap();
    assert_eq!(weather.state, TopicState::Ready, "it was there");
    assert_eq!(world.retention_hours().await, Topic::ALL.iter().map(|topic| (*topic, 168)).collect());
}

#[tokio::test]
async fn a_prefix_that_no_stream_can_have_is_told() {
    let aws = Aws::connect(Some("http://127.0.0.1:1"), "us-west-2").await;
    for prefix in ["a b", "a/", &"a".repeat(120)] {
        let problem = aws.sink(prefix).err().unwrap().to_string();
        assert!(problem.contains("TOPIC_PREFIX"), "{problem}");
    }
    let sink = aws.sink("dev-").unwrap();
    assert!(!sink.answers().await);
}

/// K1: a function makes no stream of its stack: it says which is missing, and what goes there waits until it is there.
#[tokio::test(flavor = "multi_thread")]
async fn k1_streams_that_are_others_to_make_are_reported_and_never_made() {
    let Some(world) = KinesisWorld::fresh(Endpoint::Ministack, "given").await else { return };
    let sink = world.connect().trying_for(Duration::from_secs(2)).on_given_streams();
    world.make_for_a_day(Topic::CRITICAL_ALERTS).await;
    assert!(sink.answers().await);
    let states = || async { sink.check().await.unwrap().into_iter().map(|report| report.state).collect::<Vec<_>>() };
    let mut wanted = vec![TopicState::Missing; Topic::ALL.len()];
    wanted[0] = TopicState::Ready;
    assert_eq!(states().await, wanted);
    match &sink.send(Lane::Bulk, &[record("given", 0)]).await[..] {
        [Sent::Retry(text)] => assert!(text.contains(&world.named(Topic::NASA_FIRMS)), "{text}"),
        other => panic!("{other:?}"),
    }
    // Longer than a mending takes.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.retention_hours().await.keys().collect::<Vec<_>>(), [&Topic::CRITICAL_ALERTS], "one was made");
    world.make_for_a_day(Topic::NASA_FIRMS).await;
    assert_acked(&sink.send(Lane::Bulk, &[record("given", 1)]).await);
    assert_eq!(world.retention_hours().await[&Topic::NASA_FIRMS], 24, "it was made to keep longer what others made");
}
