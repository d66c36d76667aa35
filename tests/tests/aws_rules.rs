//! Documented rules of AWS [L5], each a case with the page that states it, asked of this emulator and of what else speaks AWS's
//! protocols where it runs. Who keeps which stands in docs/aws-rules.md.

#![allow(clippy::unwrap_used)]

#[path = "aws_rules/asynchronous.rs"]
mod asynchronous;
#[path = "aws_rules/case.rs"]
mod case;
#[path = "aws_rules/dynamodb.rs"]
mod dynamodb;
#[path = "aws_rules/http_api.rs"]
mod http_api;
#[path = "aws_rules/iot_rules.rs"]
mod iot_rules;
#[path = "aws_rules/kinesis_source.rs"]
mod kinesis_source;
#[path = "aws_rules/lab.rs"]
mod lab;
#[path = "aws_rules/runtime.rs"]
mod runtime;
#[path = "aws_rules/s3.rs"]
mod s3;
#[path = "aws_rules/schedules.rs"]
mod schedules;
#[path = "aws_rules/sqs.rs"]
mod sqs;
#[path = "aws_rules/sqs_calls.rs"]
mod sqs_calls;
#[path = "aws_rules/sqs_source.rs"]
mod sqs_source;
#[path = "aws_rules/subjects.rs"]
mod subjects;
#[path = "aws_rules/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use case::{Case, Meta, Outcome, Unmet, metas};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use streammanager_tests::{skip, workspace};
use subjects::{OurQueues, Outside};
use table::{SERVICES, Seen, agree, page, seen_file, words};
use tokio::sync::Semaphore;

fn all() -> Vec<Meta> {
    [
        metas("SQS", sqs::CASES),
        metas("Event sources: queues", sqs_source::CASES),
        metas("Event sources: streams", kinesis_source::CASES),
        metas("Asynchronous invocations", asynchronous::CASES),
        metas("Schedules", schedules::CASES),
        metas("HTTP API", http_api::CASES),
        metas("HTTP API", http_api::TIMED),
        metas("AWS IoT: rules", iot_rules::CASES),
        metas("AWS IoT: clients", iot_rules::CONNECTED),
        metas("Lambda: Runtime API", runtime::CASES),
        metas("DynamoDB", dynamodb::CASES),
        metas("S3", s3::CASES),
    ]
    .concat()
}

/// This emulator keeps each rule.
fn kept<C>(cases: &[Case<C>], outcomes: Vec<Outcome>) {
    let wrong: Vec<String> = cases
        .iter()
        .zip(outcomes)
        .filter_map(|(case, outcome)| {
            outcome.err().map(|unmet| format!("{}: {unmet:?}\n  {}\n  {}", case.id, case.rule, case.page))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rules are not kept:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// One case after the other.
async fn ours<C: Copy>(cases: &[Case<C>], ask: impl AsyncFn(C) -> Outcome) {
    let mut outcomes = Vec::new();
    for case in cases {
        outcomes.push(ask(case.check).await);
    }
    kept(cases, outcomes);
}

/// All at once, where real time passes.
async fn ours_at_once(cases: &'static [Case<http_api::Check>]) {
    let asked = join_all(cases.iter().map(|case| tokio::spawn((case.check)(())))).await;
    kept(cases, asked.into_iter().map(|outcome| outcome.unwrap_or_else(|panic| Err(panic.into()))).collect());
}

#[test]
fn l5_the_suite_has_150_rules_and_more_each_with_its_page() {
    let all = all();
    assert!(all.len() >= 150, "{}", all.len());
    let ids: BTreeSet<&str> = all.iter().map(|meta| meta.id).collect();
    assert_eq!(ids.len(), all.len(), "a case's id stands twice");
    for Meta { id, page, rule, .. } in all {
        let is_public = ["https://docs.aws.amazon.com/", "https://repost.aws/knowledge-center/"];
        assert!(is_public.iter().any(|site| page.starts_with(site)), "{id}: {page}");
        assert!(rule.ends_with('.') && rule.len() < 200, "{id}: one sentence: {rule}");
    }
}

#[tokio::test(start_paused = true)]
async fn l5_queues() {
    ours(sqs::CASES, async |check| check(&OurQueues::new()).await).await;
}

#[tokio::test(start_paused = true)]
async fn l5_event_sources_of_queues() {
    ours(sqs_source::CASES, async |check| check(()).await).await;
}

#[tokio::test(start_paused = true)]
async fn l5_event_sources_of_streams() {
    ours(kinesis_source::CASES, async |check| check(()).await).await;
}

#[tokio::test(start_paused = true)]
async fn l5_asynchronous_invocations() {
    ours(asynchronous::CASES, async |check| check(()).await).await;
}

#[tokio::test(start_paused = true)]
async fn l5_schedules() {
    ours(schedules::CASES, async |check| check(()).await).await;
}

#[tokio::test(start_paused = true)]
async fn l5_topic_rules() {
    ours(iot_rules::CASES, async |check| check(()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_mqtt_clients() {
    ours_at_once(iot_rules::CONNECTED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_the_http_api() {
    ours_at_once(http_api::CASES).await;
}

#[tokio::test(start_paused = true)]
async fn l5_the_time_that_the_http_api_waits() {
    ours(http_api::TIMED, async |check| check(()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_the_runtime_api() {
    ours_at_once(runtime::CASES).await;
}

#[tokio::test(start_paused = true)]
async fn l5_items() {
    let store = subjects::store();
    ours(dynamodb::CASES, async |check| check(&*store).await).await;
}

#[tokio::test]
async fn l5_objects() {
    let (_folder, blobs) = subjects::files();
    ours(s3::CASES, async |check| check(&*blobs).await).await;
}

/// Cases that a service is asked at once: LocalStack does not answer all of them in time.
const AT_ONCE: usize = 20;

/// What a service answers, case by case. One that is late once is asked again.
async fn outside(service: &str, endpoint: &str) -> BTreeMap<String, String> {
    let subject = Arc::new(Outside::connect(endpoint).await);
    let tables = service != "ElasticMQ";
    let room = Arc::new(Semaphore::new(AT_ONCE));
    // The last ones take longest.
    let queues = sqs::CASES.iter().rev().map(|case| {
        let subject = subject.clone();
        let ask = move || {
            let subject = subject.clone();
            async move { (case.check)(&*subject).await }.boxed()
        };
        (case.id, tokio::spawn(again(room.clone(), ask)))
    });
    let items = dynamodb::CASES.iter().filter(|_| tables).map(|case| {
        let subject = subject.clone();
        let ask = move || {
            let subject = subject.clone();
            async move { (case.check)(&*subject.store().await?).await }.boxed()
        };
        (case.id, tokio::spawn(again(room.clone(), ask)))
    });
    let objects = s3::CASES.iter().filter(|_| tables).map(|case| {
        let subject = subject.clone();
        let ask = move || {
            let subject = subject.clone();
            async move { (case.check)(&*subject.blobs().await?).await }.boxed()
        };
        (case.id, tokio::spawn(again(room.clone(), ask)))
    });
    let calls = sqs_calls::CASES.iter().map(|case| {
        let subject = subject.clone();
        let ask = move || {
            let subject = subject.clone();
            async move { subject.called(case.check).await }.boxed()
        };
        (case.id, tokio::spawn(again(room.clone(), ask)))
    });
    let asked: Vec<_> = queues.chain(calls).chain(items).chain(objects).collect();
    let mut answers = BTreeMap::new();
    let absent = [metas("", dynamodb::CASES), metas("", s3::CASES)].concat().into_iter().filter(|_| !tables);
    answers.extend(absent.map(|meta| (meta.id.to_owned(), words(&Err(Unmet::NotOffered)))));
    for (id, outcome) in asked {
        answers.insert(id.to_owned(), words(&outcome.await.unwrap_or_else(|panic| Err(panic.into()))));
    }
    answers
}

async fn again(room: Arc<Semaphore>, ask: impl Fn() -> BoxFuture<'static, Outcome>) -> Outcome {
    let _at_work = room.acquire().await?;
    let begun = Instant::now();
    match ask().await {
        // What takes a minute is not a matter of a second.
        Err(_) if begun.elapsed() < Duration::from_secs(30) => ask().await,
        outcome => outcome,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_the_table_says_who_keeps_which_rule() {
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let written = std::fs::read_to_string(seen_file()).unwrap_or_else(|_| "{}".into());
    let mut seen: Seen = serde_json::from_str(&written).unwrap();
    let mut running = Vec::new();
    for (service, variable) in SERVICES {
        match std::env::var(variable).ok().filter(|url| !url.is_empty()) {
            Some(url) => running.push(async move { (service, outside(service, &url).await) }),
            None => skip(&format!("rules of AWS on {service}"), &format!("{variable} is not set")),
        }
    }
    let mut wrong = Vec::new();
    for (service, answers) in join_all(running).await {
        let known = seen.entry(service.to_owned()).or_default();
        if update {
            *known = answers;
            continue;
        }
        for (id, now) in answers {
            match known.get(&id) {
                Some(before) if agree(before, &now) => {}
                before => wrong.push(format!("{service}, {id}: {now}, and written down is {before:?}")),
            }
        }
    }
    let table = page(&all(), &metas("SQS: calls", sqs_calls::CASES), &seen);
    let path = workspace().join("docs/aws-rules.md");
    if update {
        std::fs::write(seen_file(), serde_json::to_string_pretty(&seen).unwrap() + "\n").unwrap();
        std::fs::write(path, table).unwrap();
        return;
    }
    // What others answer, and how late on a busy machine, is no promise of ours: it is said, past the capture of a test's output.
    for difference in wrong {
        let _ = writeln!(std::io::stderr(), "DIFFERS {difference}; UPDATE_SCHEMAS=1 writes down what is seen");
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(checked_in == table, "docs/aws-rules.md differs: UPDATE_SCHEMAS=1 cargo test --workspace --test aws_rules");
}
