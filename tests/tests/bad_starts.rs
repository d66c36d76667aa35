//! What cannot work ends at once with one line that names what, where and what to do; nothing that was there is touched.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use streammanager_tests::bodies::actual;
use streammanager_tests::system::{Start, System};
use streammanager_tests::upstream::{FIRMS_STREAM, firms_csv};
use streammanager_tests::{binary, free_port, workspace};
use tempfile::tempdir;

/// All that a command says on standard error when it ends with `code`.
#[track_caller]
fn ends(command: &mut Command, code: i32) -> String {
    let ended = command.output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{command:?}: {error}");
    error
}

/// The last line of what a command that must fail says on standard error.
#[track_caller]
fn failure(command: &mut Command) -> String {
    let error = ends(command, 1);
    let last = error.lines().last().unwrap_or_default();
    last.strip_prefix("streammanager: ").unwrap_or_else(|| panic!("not one line of ours: {error}")).to_owned()
}

#[track_caller]
fn names(says: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(says.contains(part), "{part:?} is not in {says:?}");
    }
}

fn written(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn broken_templates_and_streams_are_named_by_file_and_place() {
    let folder = tempdir().unwrap();
    let good = Start::quiet(folder.path());
    let up = |start: &Start| failure(&mut start.command(free_port(), free_port()));
    let template = |text: &str| up(&Start { template: written(folder.path(), "t.yaml", text), ..good.clone() });
    let streams = |text: &str| up(&Start { streams: written(folder.path(), "s.yaml", text), ..good.clone() });

    names(&template("Resources: [\n"), &["t.yaml:", ":2:"]);
    let deployed = std::fs::read_to_string(workspace().join("infra/template.yaml")).unwrap();
    let says = template(&deployed.replacen("VisibilityTimeout: 30", "VisibilityTimeout: soon", 1));
    names(&says, &["t.yaml: Resources.CriticalQueue.Properties.VisibilityTimeout: must be 0 to 43200, not soon"]);
    names(&up(&Start { template: folder.path().join("none.yaml"), ..good.clone() }), &["none.yaml", "--template"]);

    for (from, to, wanted) in [
        ("    tenant: test", "    tenant: test\n    colour: red", &["streams[0]", "`colour`", "line 7 column 5"][..]),
        ("version: 1", "colour: red\nversion: 1", &["`colour`", "line 1 column 1"]),
        ("firms_viirs_snpp", "tweets", &["streams[0].source_id", "tweets", "route table", "line 4 column 5"]),
        (
            "firms_viirs_snpp",
            "evacuation_alert_x",
            &["streams[0].source_id", "evacuation_alert_x", "critical grant", "line 4 column 5"],
        ),
        ("interval: 60s", "interval: soon", &["interval", "60s, 5m or 1h"]),
        ("42.1]", "42.1], days: 99", &["streams[0].config.days", "99", "line 8"]),
        ("42.1]", "42.1], map_key: 5ecret", &["`map_key`", "line 8"]),
    ] {
        assert!(FIRMS_STREAM.contains(from));
        let says = streams(&FIRMS_STREAM.replace(from, to));
        names(&says, wanted);
        names(&says, &["s.yaml: "]);
        assert!(!says.contains("5ecret"), "a secret is shown: {says}");
    }
    names(&up(&Start { streams: folder.path().join("none.yaml"), ..good.clone() }), &["none.yaml", "--streams"]);
    assert!(!good.data.join("state.redb").exists(), "a start that failed has left a data folder");
    let says = template(&deployed.replacen("Binary: deliver", "Binary: telegraph", 1));
    names(&says, &["DeliverFunction", "telegraph"]);
}

#[test]
fn addresses_that_cannot_be_used_are_named_by_their_flag() {
    let folder = tempdir().unwrap();
    let good = Start::quiet(folder.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let says = failure(&mut good.command(port, free_port()));
    names(&says, &["--http", &address, "in use", "choose another"]);
    let says = failure(&mut good.command(free_port(), port));
    names(&says, &["--mqtt", &address, "in use", "choose another"]);
    let kafka = |kafka: &str| {
        let start = Start { kafka: kafka.to_owned(), ..good.clone() };
        failure(&mut start.command(free_port(), free_port()))
    };
    names(&kafka(&format!("embedded:{port}")), &["--kafka", &address, "in use", "choose another"]);
    let nobody = format!("127.0.0.1:{}", free_port());
    let endpoint = format!("http://{nobody}");
    let aws = Start { aws: endpoint.clone(), ..good.clone() };
    names(&failure(&mut aws.command(free_port(), free_port())), &["--aws", &endpoint, "cannot be used"]);
    for (flag, text, advice) in [
        ("--http", "nowhere", "HOST:PORT"),
        ("--mqtt", "127.0.0.1:mqtt", "HOST:PORT"),
        ("--kafka", "embedded:soon", "embedded:PORT or HOST:PORT"),
        ("--kafka", "nowhere", "embedded:PORT or HOST:PORT"),
        ("--aws", "nowhere", "http://HOST:PORT"),
        ("--upstream", "nowhere", "http://HOST:PORT"),
        ("--for", "soon", "60s, 5m or 1h"),
    ] {
        let says = ends(Command::new(binary()).args(["up", flag, text]).current_dir(folder.path()), 2);
        names(&says, &[flag, text, advice]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_used_is_named_and_left_as_it_was() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let up = |start: &Start| failure(&mut start.command(free_port(), free_port()));
    let file = written(folder.path(), "file", "mine");
    for data in [file.clone(), file.join("below")] {
        let says = up(&Start { data: data.clone(), ..start.clone() });
        names(&says, &[data.to_str().unwrap(), "data folder", "name one"]);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    // One owner, whichever command it is.
    let system = System::up(&start);
    let second = Start { kafka: format!("embedded:{}", free_port()), ..start.clone() };
    names(&up(&second), &[start.data.to_str().unwrap(), "in use by process", "choose another folder"]);
    let rows = written(folder.path(), "rows.csv", "latitude\n");
    let mut ingest = Command::new(binary());
    ingest.args(["ingest", "--source", "firms_viirs_snpp", "--out"]).arg(folder.path().join("out"));
    let says = failure(ingest.arg("--data").arg(&start.data).arg(&rows));
    names(&says, &[start.data.to_str().unwrap(), "in use by process"]);
    let key = system.sender("butte").await;
    let (status, answer) = system.alert(&key, actual("B1")).await.unwrap();
    assert_eq!(status, 200, "the owner does not go on: {answer}");
    assert_eq!(system.stop().0, 0);

    // Damaged bytes in any place: refused, not overwritten.
    let store = start.data.join("state.redb");
    let sound = std::fs::read(&store).unwrap();
    let garbled = |from: usize, to: usize| {
        let mut bytes = sound.clone();
        bytes[from..to].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 37 + 11) as u8);
        bytes
    };
    for damaged in [garbled(0, sound.len()), garbled(0, 200), sound[..sound.len() / 2].to_vec()] {
        std::fs::write(&store, &damaged).unwrap();
        names(&up(&start), &[store.to_str().unwrap(), "copy"]);
        assert_eq!(std::fs::read(&store).unwrap(), damaged, "the damaged file was written to");
    }
    std::fs::write(&store, &sound).unwrap();
    let key_file = start.data.join("control.key");
    let key_text = std::fs::read_to_string(&key_file).unwrap();
    std::fs::write(&key_file, "").unwrap();
    names(&up(&start), &[key_file.to_str().unwrap(), "is empty", "delete it"]);
    std::fs::write(&key_file, key_text).unwrap();
    let meta = start.data.join("kafka/meta.redb");
    let sound_meta = std::fs::read(&meta).unwrap();
    std::fs::write(&meta, "no database").unwrap();
    names(&up(&start), &["Kafka endpoint", meta.to_str().unwrap()]);
    std::fs::write(&meta, sound_meta).unwrap();

    // The same folder, made good again, has everything.
    let system = System::up(&start);
    assert_eq!(system.messages("wildfire-critical-alerts", 1).len(), 1);
    assert_eq!(system.alert(&key, actual("B2")).await.unwrap().0, 200);
}

/// The whole of what a start that must fail says on standard error.
fn said(start: &Start) -> String {
    let ended = start.command(free_port(), free_port()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    said
}

/// A log that goes to a file is read by people and by tools: it has no colours.
#[test]
fn a_log_in_a_file_has_no_colours() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    written(folder.path(), "no-streams.yaml", "version: 1\nstreams: []\n");
    let mut system = start.command(free_port(), free_port());
    let ended = system.args(["--for", "1s"]).env("RUST_LOG", "trace").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains(" DEBUG ") || said.contains(" TRACE "), "nothing was logged: {said}");
    assert!(!said.contains('\x1b'), "{said}");
}

/// What is gone is said, never made anew beside what is left; and damage is one line, not a stack trace.
#[tokio::test(flavor = "multi_thread")]
async fn lost_and_damaged_files_of_a_data_folder_are_one_line_and_what_is_left_stays() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let key = system.sender("butte").await;
    assert_eq!(system.alert(&key, actual("L1")).await.unwrap().0, 200);
    assert_eq!(system.stop().0, 0);

    for (name, other) in [("state.redb", "blobs"), ("kafka/meta.redb", "kafka/logs")] {
        let file = start.data.join(name);
        let sound = std::fs::read(&file).unwrap();
        for emptied in [true, false] {
            if emptied {
                std::fs::write(&file, "").unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            let says = said(&start);
            names(&says, &[file.to_str().unwrap(), other, if emptied { "empty" } else { "missing" }, "copy", "anew"]);
            assert_eq!(says.lines().count(), 1, "{says}");
        }
        // Damaged in the middle of a page, and all over.
        for from in [64, 4096, sound.len() / 2] {
            let mut damaged = sound.clone();
            damaged[from..].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 37 + 11) as u8);
            std::fs::write(&file, &damaged).unwrap();
            let says = said(&start);
            names(&says, &[file.to_str().unwrap(), "copy"]);
            assert_eq!(says.lines().count(), 1, "from byte {from}: {says}");
        }
        std::fs::write(&file, sound).unwrap();
    }

    // The records of the Kafka endpoint's topics, moved away and brought back.
    let (logs, away) = (start.data.join("kafka/logs"), start.data.join("kafka/away"));
    std::fs::rename(&logs, &away).unwrap();
    let says = said(&start);
    names(&says, &[logs.to_str().unwrap(), "wildfire-critical-alerts (partitions 0", "copy", "anew"]);
    assert_eq!(says.lines().count(), 1, "{says}");
    std::fs::rename(&away, &logs).unwrap();

    let system = System::up(&start);
    assert_eq!(system.messages("wildfire-critical-alerts", 1).len(), 1);
    assert_eq!(system.alert(&key, actual("L2")).await.unwrap().0, 200, "the sender is still known");
}

/// A log of the Kafka endpoint that was emptied is said at the start, with topic, partition and what is missing; the offsets
/// of its records are given to no others.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_log_that_was_cut_is_said_and_its_offsets_stay_taken() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let key = system.sender("butte").await;
    let (_, answer) = system.alert(&key, actual("C1")).await.unwrap();
    let accepted = &answer["accepted"][0];
    let (partition, offset) = (accepted["partition"].as_i64().unwrap(), accepted["offset"].as_i64().unwrap());
    assert_eq!(offset, 0, "{answer}");
    system.stop();
    let topics = std::fs::read_dir(start.data.join("kafka/logs")).unwrap().map(|topic| topic.unwrap().path());
    let logs = topics.map(|topic| topic.join(partition.to_string()).join("00000000000000000000.log"));
    let cut: Vec<_> = logs.filter(|log| log.metadata().is_ok_and(|log| log.len() > 0)).collect();
    assert_eq!(cut.len(), 1, "{cut:?}");
    std::fs::write(&cut[0], "").unwrap();

    let ended = start.command(free_port(), free_port()).args(["--for", "1s"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let warned = said.lines().find(|line| line.contains("are missing")).unwrap_or_else(|| panic!("{said}"));
    let partition_said = format!("partition={partition} ");
    names(
        warned,
        &["WARN", "wildfire-critical-alerts", &partition_said, "first_missing=0", "last_missing=0", "records=1"],
    );
    let system = System::up(&start);
    // The same thread, so the same partition.
    let body = actual("C1").replace("Evacuation", "Another evacuation");
    let (_, answer) = system.alert(&key, body).await.unwrap();
    let accepted = &answer["accepted"][0];
    assert_eq!((accepted["partition"].as_i64(), accepted["offset"].as_i64()), (Some(partition), Some(1)), "{answer}");
}

#[test]
fn commands_on_files_name_what_is_wrong_with_their_arguments() {
    let folder = tempdir().unwrap();
    let rows = written(folder.path(), "rows.csv", "latitude\n");
    let file = written(folder.path(), "file", "");
    let nobody = format!("127.0.0.1:{}", free_port());
    let command = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).arg(&rows).current_dir(folder.path());
        command
    };
    for (arguments, wanted) in [
        (&["ingest", "--source", "tweets", "--out", "o"][..], &["--source tweets", "known are firms_"][..]),
        (&["ingest", "--source", "Bad id", "--out", "o"], &["--source", "\"Bad id\"", "a-z, 0-9 and _"]),
        (&["decode", "--source", "tweets"], &["--source tweets", "known are firms_"]),
        (
            &["decode", "--source", "firms_modis", "--format", "fax"],
            &["--format", "'fax'", "auto, firms, sensor, synoptic, airnow, alert"],
        ),
        (&["ingest", "--source", "firms_modis"], &["--out <DIR>|--kafka"]),
        (&["ingest", "--source", "firms_modis", "--out", "o", "--kafka", &nobody], &["--out", "--kafka"]),
        (&["alerts", "send", "--key-file", "file", "--endpoint", "nowhere"], &["--endpoint", "http://HOST:PORT"]),
    ] {
        names(&ends(&mut command(arguments), 2), wanted);
    }
    for (arguments, wanted) in [
        (
            &["ingest", "--source", "firms_modis", "--out", "o", "none.csv"][..],
            &["none.csv", "there is no such file"][..],
        ),
        (&["ingest", "--source", "firms_modis", "--out", "file"], &["file", "name a folder"]),
        (&["ingest", "--source", "firms_modis", "--out", "o", "--data", "file"], &["file", "data folder", "name one"]),
        (&["alerts", "send", "--key-file", "none.key"], &["none.key", "there is no such file", "--key-file"]),
        (
            &["alerts", "send", "--key-file", "file", "--endpoint", &format!("http://{nobody}")],
            &["nothing answers at", &nobody, "streammanager up", "--endpoint"],
        ),
    ] {
        names(&failure(&mut command(arguments)), wanted);
    }
    // Taken in all the same: a sink that is away is no fault of the file [R5].
    let queued = ends(&mut command(&["ingest", "--source", "firms_modis", "--kafka", &nobody]), 3);
    names(&queued, &["Kafka at", &nobody, "does not answer", "the next run with this folder delivers it"]);
    assert!(file.is_file());
}

/// A file that cannot be unpacked costs itself alone, wherever it stands.
#[test]
fn a_broken_file_among_good_ones_is_named_and_the_others_are_done() {
    let folder = tempdir().unwrap();
    let first = written(folder.path(), "first.csv", &firms_csv(0, 5));
    let last = written(folder.path(), "last.csv", &firms_csv(5, 5));
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(firms_csv(10, 50).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let cut = folder.path().join("cut.csv.gz");
    std::fs::write(&cut, &packed[..packed.len() / 2]).unwrap();
    let run = |command: &str, more: &[&str]| {
        let mut program = Command::new(binary());
        program.args([command, "--source", "firms_viirs_snpp"]).args(more).args([&first, &cut, &last]);
        let ended = program.current_dir(folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(ended.status.code(), Some(3), "{}", text(&ended.stderr));
        (text(&ended.stdout), text(&ended.stderr))
    };
    let (records, problems) = run("decode", &[]);
    assert_eq!(records.lines().count(), 10, "{problems}");
    assert!(problems.contains("cut.csv.gz: not_data"), "{problems}");
    let (said, _) = run("ingest", &["--out", "sink", "--data", "data", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["accepted"], &said["queued"]), (&10.into(), &0.into()), "{said}");
    assert!(said["files"][1]["error"].is_string() && said["files"][2]["error"].is_null(), "{said}");
    let published = std::fs::read_to_string(folder.path().join("sink/wildfire-nasa-firms.ndjson")).unwrap();
    assert_eq!(published.lines().count(), 10);
}

/// `ingest` takes critical ids as the HTTP API does, by the key of a connector that holds the grant, and in no other way.
#[tokio::test(flavor = "multi_thread")]
async fn a2_ingest_is_no_back_door_to_critical_ids() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let key = system.sender("butte").await;
    system.stop();
    let body = written(folder.path(), "alert.json", &actual("I1"));
    let out = folder.path().join("out");
    let ingest = |source: &str, key_file: Option<&str>| {
        let mut command = Command::new(binary());
        command.args(["ingest", "--source", source, "--data"]).arg(&start.data).arg("--out").arg(&out);
        key_file.into_iter().for_each(|file| _ = command.arg("--key-file").arg(folder.path().join(file)));
        command.arg(&body);
        command
    };
    written(folder.path(), "right.key", &key);
    written(folder.path(), "wrong.key", &format!("{}x", &key[..key.len() - 1]));
    let own = "evacuation_alert_butte";
    names(&failure(&mut ingest(own, None)), &[own, "unauthorised_source", "--key-file"]);
    names(&failure(&mut ingest(own, Some("none.key"))), &["none.key", "there is no such file"]);
    names(&failure(&mut ingest(own, Some("wrong.key"))), &["wrong.key", "unauthorised_source"]);
    let other = "evacuation_alert_yuba";
    names(&failure(&mut ingest(other, Some("right.key"))), &["unauthorised_source", "butte", other]);
    assert!(!out.join("wildfire-critical-alerts.ndjson").exists(), "a refused alert was published");

    let taken = ingest(own, Some("right.key")).output().unwrap();
    assert_eq!(taken.status.code(), Some(0), "{}", String::from_utf8_lossy(&taken.stderr));
    let published = std::fs::read_to_string(out.join("wildfire-critical-alerts.ndjson")).unwrap();
    assert_eq!(published.lines().count(), 1);
    assert!(published.contains("\"I1\"") && published.contains(own), "{published}");
}

/// L3: what the Lambda binaries need is named before anything is started.
#[test]
fn l3_a_start_by_processes_names_what_it_lacks() {
    let folder = tempdir().unwrap();
    let up = |start: &Start, more: &[&str], code| {
        let mut command = start.command(free_port(), free_port());
        ends(command.args(["--runtime", "process"]).args(more), code)
    };
    let embedded = Start::quiet(folder.path());
    names(&up(&embedded, &[], 2), &["--runtime process needs --aws URL and --kafka HOST:PORT or --kinesis URL"]);
    let groups = ["up", "--kinesis", "http://kinesis.test", "--consumer-groups", "desk"];
    let says = ends(Command::new(binary()).args(groups), 2);
    names(&says, &["'--kinesis <URL>' cannot be used with '--consumer-groups <GROUPS>'"]);
    let brokers = Start { kafka: "127.0.0.1:9".into(), ..embedded };
    let says = up(&brokers, &[], 2);
    names(&says, &["needs --aws URL: "]);
    assert!(!brokers.data.exists(), "nothing was made");
}
