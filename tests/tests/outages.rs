//! What is accepted while Kafka is away, while the disk is full and across restarts: it goes out when that is over, and people
//! are told once [R5, Q2, L1, O8].

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use reqwest::Method;
use serde_json::{Value, json};
use streammanager_tests::bodies::actual;
use streammanager_tests::disk::SmallDisk;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, FakeUpstream, firms_csv};
use streammanager_tests::{binary, free_port, skip};
use tempfile::tempdir;

/// A broker that others use: the embedded endpoint of a system with nothing else to do.
fn broker(folder: &Path, port: u16) -> System {
    System::up(&Start { kafka: format!("embedded:{port}"), ..Start::quiet(&folder.join("broker")) })
}

/// Until `topic` holds `want` messages. Longer than a circuit breaker may stay open.
async fn arrived(broker: &System, topic: &str, want: usize) {
    let end = Instant::now() + Duration::from_secs(150);
    while broker.count(topic) < want {
        assert!(Instant::now() < end, "{topic} holds {} of {want} messages", broker.count(topic));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn partitions(broker: &System, topic: &str) -> Option<u64> {
    let listed = Command::new(binary()).args(["topics", "list", "--json", "--kafka", &broker.kafka]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut topics = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    topics.find(|found| found["topic"] == topic)?["partitions"].as_u64()
}

fn said<'a>(events: &'a [Value], event: &str) -> Vec<&'a Value> {
    events.iter().filter(|line| line["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_start_without_kafka_takes_in_survives_a_kill_and_delivers_when_it_appears() {
    let folder = tempdir().unwrap();
    let port = free_port();
    let start = Start { kafka: format!("127.0.0.1:{port}"), ..Start::quiet(folder.path()) };
    let system = System::up(&start);
    assert_eq!(system.started["started"]["kafka_answers"], false);
    let key = system.sender("butte").await;
    let (status, answer) = system.alert(&key, actual("O1")).await.unwrap();
    assert_eq!((status, &answer["accepted"][0]["acknowledged_by"]), (200, &json!("queue")), "{answer}");
    let (status, ready) = system.readiness().await;
    assert_eq!((status, &ready["intake"]["ready"], &ready["delivery"]["ready"]), (200, &json!(true), &json!(false)));
    assert!(ready["delivery"]["answers"].as_str().unwrap().contains("does not answer"), "{ready}");
    system.kill();

    let system = System::up(&start);
    assert_eq!(system.started["started"]["queued_at_start"], 1, "the alert was accepted before the kill");
    assert_eq!(system.alert(&key, actual("O2")).await.unwrap().0, 200, "a start during an outage takes alerts");
    let broker = broker(folder.path(), port);
    arrived(&broker, "wildfire-critical-alerts", 2).await;
    let made = partitions(&broker, "wildfire-critical-alerts");
    assert_eq!(made, Some(6), "the topics are made when the broker appears [K2]");
    while system.readiness().await.1["delivery"]["ready"] != true {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (code, events) = system.stop_saying();
    assert_eq!((code, &events.last().unwrap()["ledger"]["balanced"]), (0, &json!(true)), "{events:?}");
    assert_eq!(said(&events, "delivery_stopped").len(), 1, "{events:?}");
    assert_eq!(said(&events, "delivery_resumed").len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_ingest_queues_while_kafka_is_away_and_the_next_run_delivers_it() {
    let folder = tempdir().unwrap();
    let rows = folder.path().join("rows.csv");
    std::fs::write(&rows, firms_csv(0, 10)).unwrap();
    let port = free_port();
    let ingest = || {
        let mut ingest = Command::new(binary());
        ingest.args(["ingest", "--json", "--source", "firms_viirs_snpp", "--kafka", &format!("127.0.0.1:{port}")]);
        let ended = ingest.arg("--data").arg(folder.path().join("data")).arg(&rows).output().unwrap();
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        (ended.status.code(), report, String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, report, errors) = ingest();
    assert_eq!((code, &report["accepted"], &report["queued"]), (Some(3), &json!(10), &json!(10)), "{errors}");
    assert!(errors.contains("does not answer") && errors.contains("delivers it"), "{errors}");
    let broker = broker(folder.path(), port);
    let (code, report, errors) = ingest();
    assert_eq!((code, &report["duplicates"], &report["queued"]), (Some(0), &json!(10), &json!(0)), "{errors}");
    assert_eq!(broker.messages("wildfire-nasa-firms", 10).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_a_deleted_topic_is_made_again_with_its_partitions() {
    let folder = tempdir().unwrap();
    let port = free_port();
    let broker = broker(folder.path(), port);
    let system = System::up(&Start { kafka: format!("127.0.0.1:{port}"), ..Start::quiet(folder.path()) });
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("T1")).await.unwrap().0, 200);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    let deleted = admin.delete_topics(&["wildfire-critical-alerts"], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    assert_eq!(system.alert(&key, actual("T2")).await.unwrap().0, 200);
    arrived(&broker, "wildfire-critical-alerts", 1).await;
    assert_eq!(partitions(&broker, "wildfire-critical-alerts"), Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn l1_the_streams_file_seeds_an_empty_folder_and_the_operators_changes_stay() {
    let folder = tempdir().unwrap();
    let source = FakeUpstream::serve(|_| firms_csv(0, 3));
    let start = Start { upstream: Some(source.url.clone()), ..Start::quiet(folder.path()) };
    std::fs::write(&start.streams, FIRMS_STREAM).unwrap();
    let system = System::up(&start);
    assert_eq!(
        (&system.started["started"]["streams"], &system.started["started"]["streams_differ"]),
        (&json!(1), &Value::Null)
    );
    let own = json!({ "version": 1, "streams": [{
        "id": "own", "source_id": "firms_viirs_noaa20", "connector": "firms", "tenant": "test", "interval": "5m",
        "config": { "product": "VIIRS_NOAA20_NRT", "area": [-124.5, 32.5, -114.1, 42.1], "days": 1 },
    }] });
    let (status, answer) = system.control(Method::PUT, "/streams", Some(own)).await;
    assert_eq!(status, 200, "{answer}");
    system.stop();

    std::fs::write(&start.streams, FIRMS_STREAM.replace("60s", "90s").replace("id: snpp", "id: other")).unwrap();
    let system = System::up(&start);
    let differ = &system.started["started"]["streams_differ"];
    assert_eq!((&differ["added"], &differ["removed"]), (&json!(["other"]), &json!(["own", "snpp"])), "{differ}");
    let (_, listed) = system.control(Method::GET, "/streams", None).await;
    let ids: Vec<&str> =
        listed["streams"].as_array().unwrap().iter().map(|s| s["stream_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["own", "snpp"], "a difference is never applied unasked");
}

#[tokio::test(flavor = "multi_thread")]
async fn o8_a_source_that_refuses_the_key_is_quoted_at_once_and_once() {
    let folder = tempdir().unwrap();
    let source = FakeUpstream::serve(|_| "Invalid MAP_KEY.".to_owned());
    let start = Start { upstream: Some(source.url.clone()), ..Start::quiet(folder.path()) };
    std::fs::write(&start.streams, FIRMS_STREAM.replace("60s", "1s")).unwrap();
    let system = System::up(&start);
    while !system.page("/metrics").await.unwrap().contains("stream_polls_failed_total{stream_id=\"snpp\"} 2") {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, events) = system.stop_saying();
    let failing = said(&events, "source_failing");
    assert_eq!(failing.len(), 1, "{events:?}");
    assert_eq!(failing[0]["stream"], "snpp");
    assert!(failing[0]["problem"].as_str().unwrap().contains("Invalid MAP_KEY."), "{failing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn q2_on_a_full_disk_what_is_queued_goes_out_and_nothing_new_is_accepted() {
    let folder = tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk"), 64) else {
        return skip("a real full disk", "this user may not mount a tmpfs");
    };
    let port = free_port();
    let quiet = Start::quiet(folder.path());
    let system = System::up(&Start { kafka: format!("127.0.0.1:{port}"), data: disk.folder().join("data"), ..quiet });
    let key = system.sender("butte").await;
    for n in 0..20 {
        assert_eq!(system.alert(&key, actual(&format!("F{n}"))).await.unwrap().0, 200);
    }
    disk.fill();
    let (status, answer) = system.alert(&key, actual("late")).await.unwrap();
    assert_eq!(status, 503, "nothing can keep it: {answer}");
    let (status, ready) = system.readiness().await;
    assert_eq!((status, &ready["intake"]["ready"]), (503, &json!(false)), "{ready}");
    assert!(ready["intake"]["disk"].as_str().unwrap().contains("full"), "{ready}");

    let broker = broker(folder.path(), port);
    arrived(&broker, "wildfire-critical-alerts", 20).await;
    disk.free();
    assert_eq!(system.readiness().await.0, 200, "there is room again");
    assert_eq!(system.alert(&key, actual("after")).await.unwrap().0, 200);
    let (_, events) = system.stop_saying();
    assert_eq!((said(&events, "intake_closed").len(), said(&events, "intake_open").len()), (1, 1), "{events:?}");
}

/// With the built-in endpoint an alert's record needs the same disk: its reserve is for what is queued.
#[tokio::test(flavor = "multi_thread")]
async fn q2_with_the_built_in_kafka_alerts_stop_at_the_disks_floor_too() {
    let folder = tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("disk"), 64) else {
        return skip("a real full disk", "this user may not mount a tmpfs");
    };
    let data = disk.folder().join("data");
    let system = System::up(&Start { data: data.clone(), ..Start::quiet(folder.path()) });
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("before")).await.unwrap().0, 200);
    let reserve = || std::fs::metadata(data.join("reserve")).unwrap().len();
    let held = reserve();
    while system.readiness().await.0 == 200 {
        disk.take(256 * 1024);
    }
    for n in 0..20 {
        let (status, answer) = system.alert(&key, actual(&format!("late{n}"))).await.unwrap();
        assert_eq!(status, 503, "below the floor: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains("nothing new is taken in"), "{answer}");
    }
    assert_eq!(reserve(), held, "no new alert took the reserve");
    disk.free();
    assert_eq!(system.readiness().await.0, 200, "there is room again");
    assert_eq!(system.alert(&key, actual("after")).await.unwrap().0, 200);
    assert_eq!(system.messages("wildfire-critical-alerts", 2).len(), 2);
}

/// Writes still succeed in files that have no name any more, and are gone with the process.
#[tokio::test(flavor = "multi_thread")]
async fn q1_a_data_folder_that_is_removed_under_a_running_system_closes_the_intake() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("before")).await.unwrap().0, 200);
    let aside = folder.path().join("moved");
    std::fs::rename(&start.data, &aside).unwrap();
    let (status, answer) = system.alert(&key, actual("after")).await.unwrap();
    assert_eq!(status, 503, "{answer}");
    let (status, ready) = system.readiness().await;
    assert_eq!((status, &ready["intake"]["ready"]), (503, &json!(false)), "{ready}");
    assert!(ready["intake"]["disk"].as_str().unwrap().contains("removed or replaced"), "{ready}");
    std::fs::rename(&aside, &start.data).unwrap();
    assert_eq!(system.alert(&key, actual("back")).await.unwrap().0, 200);
}

/// One data folder, two commands: what one leaves queued the other delivers.
#[tokio::test(flavor = "multi_thread")]
async fn q1_what_ingest_leaves_queued_up_delivers_and_the_reverse() {
    let folder = tempdir().unwrap();
    let nobody = format!("127.0.0.1:{}", free_port());
    let start = Start::quiet(folder.path());
    let ingest = |rows: std::ops::Range<usize>, to: [&str; 2]| {
        let file = folder.path().join("rows.csv");
        std::fs::write(&file, firms_csv(rows.start, rows.len())).unwrap();
        let mut command = Command::new(binary());
        command.args(["ingest", "--json", "--source", "firms_viirs_snpp", "--data"]).arg(&start.data).args(to);
        let ended = command.arg(&file).current_dir(folder.path()).output().unwrap();
        serde_json::from_slice::<Value>(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
    };
    let left = ingest(0..20, ["--kafka", &nobody]);
    assert_eq!((&left["accepted"], &left["queued"]), (&json!(20), &json!(20)), "{left}");
    let system = System::up(&start);
    assert_eq!(system.messages("wildfire-nasa-firms", 20).len(), 20);
    let key = system.sender("butte").await;
    assert_eq!(system.stop().0, 0);

    let away = System::up(&Start { kafka: nobody.clone(), ..start.clone() });
    let (_, answer) = away.alert(&key, actual("N1")).await.unwrap();
    assert_eq!(answer["accepted"][0]["acknowledged_by"], "queue", "{answer}");
    assert_eq!(away.stop().0, 3);
    let taken = ingest(20..25, ["--out", "out"]);
    assert_eq!((&taken["queued_at_start"], &taken["accepted"], &taken["queued"]), (&json!(1), &json!(5), &json!(0)));
    assert_eq!(taken["delivered"], json!({ "wildfire-critical-alerts": 1, "wildfire-nasa-firms": 5 }));
    let published = std::fs::read_to_string(folder.path().join("out/wildfire-critical-alerts.ndjson")).unwrap();
    assert!(published.contains("\"N1\""), "{published}");
}
