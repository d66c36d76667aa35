//! The operators' and senders' commands against a running system: exit codes, variables, and keys that are never lost. What
//! cannot even start is in bad_starts.rs.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use streammanager::record::Topic;
use streammanager_host::publisher::Publisher;
use streammanager_tests::binary;
use streammanager_tests::bodies::actual;
use streammanager_tests::system::{Start, System};
use tempfile::tempdir;

/// Runs in `folder`; gives exit code, standard output, standard error.
fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).envs(variables.iter().copied());
    let ended = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code().unwrap(), text(&ended.stdout), text(&ended.stderr))
}

const REGISTER: [&str; 8] =
    ["connectors", "register", "butte", "--tenant", "test", "--critical", "--source", "evacuation_alert_butte"];

#[test]
fn a_key_goes_into_a_file_of_its_own_and_is_never_lost() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let url = system.url("/");
    let variables = [("STREAMMANAGER_ENDPOINT", &*url), ("STREAMMANAGER_DATA", start.data.to_str().unwrap())];
    let run = |arguments: &[&str]| run(folder.path(), &variables, arguments);
    let register = |file: &str| run(&[&REGISTER[..], &["--key-file", file]].concat());
    let content = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();

    std::fs::write(folder.path().join("mine"), "mine").unwrap();
    let (code, _, error) = register("mine");
    assert_eq!((code, &*content("mine")), (1, "mine"), "{error}");
    assert!(error.contains("--key-file mine") && error.contains("new file"), "{error}");
    let (_, listed, _) = run(&["connectors", "list"]);
    assert!(!listed.contains("butte"), "registered without a place for its key: {listed}");

    let (code, said, error) = register("butte.key");
    assert_eq!(code, 0, "{error}");
    let first = content("butte.key");
    assert!(first.starts_with("smk_butte:") && !said.contains(first.trim()), "{said}");
    let mode = std::fs::metadata(folder.path().join("butte.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (code, _, error) = register("second.key");
    assert!(code == 1 && error.contains("rotate its key"), "{error}");
    assert!(!folder.path().join("second.key").exists(), "a file is left of a registration that was refused");

    let (code, said, _) = run(&["connectors", "rotate", "butte", "--key-file", "second.key", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["key"], &said["key_file"]), (0, &Value::Null, &"second.key".into()));
    std::fs::write(folder.path().join("alert.json"), actual("C1")).unwrap();
    let send = |key: &str| run(&["alerts", "send", "--key-file", key, "alert.json"]);
    assert_eq!(send("butte.key").0, 1, "the old key is taken");
    let (code, said, error) = send("second.key");
    let at = " revision 0 for wildfire-critical-alerts: ";
    let (told, there) = said.trim_end().split_once(at).unwrap_or_else(|| panic!("{said}{error}"));
    assert_eq!(told.len(), 32, "an event id: {said}");
    // A broker that is still warming up may lose the race against the queue [E2].
    assert_eq!(code, if there.starts_with("the broker has it") { 0 } else { 3 }, "{said}{error}");

    assert_eq!(run(&["connectors", "revoke", "butte"]).0, 0);
    let (code, _, error) = register("third.key");
    assert!(code == 1 && error.contains("revoked; register another id"), "{error}");
    let (code, said, _) = run(&["connectors", "register", "yuba", "--tenant", "test", "--source", "iot_yuba"]);
    assert!(code == 0 && said.starts_with("smk_yuba:"), "without a file the key is shown: {said}");
}

#[test]
fn an_alert_refused_for_what_it_holds_ends_with_3_and_says_why() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let url = system.url("");
    let variables = [("STREAMMANAGER_ENDPOINT", &*url), ("STREAMMANAGER_KEY_FILE", "butte.key")];
    let run = |arguments: &[&str]| run(folder.path(), &variables, arguments);
    let control_key = start.data.join("control.key");
    let control = ["--control-key-file", control_key.to_str().unwrap(), "--key-file", "butte.key"];
    assert_eq!(run(&[&REGISTER[..], &control].concat()).0, 0);
    let send = |body: &[u8]| {
        std::fs::write(folder.path().join("alert"), body).unwrap();
        run(&["alerts", "send", "alert"])
    };
    let doctype = b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"c\">]><alert/>";
    for (body, reason) in [
        (&b"no alert"[..], "not_data"),
        (b"{\"sender\": ", "bad_json"),
        (b"<alert", "bad_xml"),
        (doctype, "doctype"),
        (b"{}", "missing_field"),
        (&vec![b'x'; 2 << 20], "too_large"),
    ] {
        let (code, said, error) = send(body);
        assert_eq!((code, &*said), (3, ""), "{reason}: {error}");
        assert!(error.starts_with(&format!("alert: rejected: {reason}: ")), "{error}");
    }
    std::fs::write(folder.path().join("butte.key"), "smk_butte:wrong").unwrap();
    let (code, _, error) = send(actual("C2").as_bytes());
    assert!(code == 1 && error.contains("401: unauthorised_source"), "{error}");
}

/// What `alerts send` makes of an answer: exit code, standard output, standard error.
fn answered(body: &'static str) -> (i32, String, String) {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("feed"), "feed").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"feed") {
            let mut part = [0; 4096];
            let n = connection.read(&mut part).unwrap();
            request.extend_from_slice(&part[..n]);
        }
        write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let answer = run(folder.path(), &[], &["alerts", "send", "--key-file", "feed", "--endpoint", &url, "feed"]);
    server.join().unwrap();
    answer
}

/// A system that finds no alert in a body must not sound like one that took it.
#[test]
fn a_reply_without_an_alert_is_not_silent() {
    let (code, _, error) = answered(r#"{"accepted":[],"rejected":[]}"#);
    assert_eq!(code, 3);
    assert!(error.contains("feed: nothing was accepted"), "{error}");
}

/// E5: 3 while an alert is only queued, and nothing that its sender must know is left out.
#[test]
fn e5_the_reply_to_an_alert_is_told_whole_and_ends_with_3_while_it_is_only_queued() {
    let (code, said, error) = answered(
        r#"{"accepted":[{"event_id":"e1","revision":2,"duplicate":true,"expired":true,"geometry":"broken","warnings":["geometry: lost"],
        "acknowledged_by":"broker","topic":"t","drill":false,"partition":3,"offset":17}],"rejected":[]}"#,
    );
    let whole = "e1 revision 2 for t: the broker has it, partition 3, offset 17; a duplicate, not published again; it has expired; A SHAPE CANNOT BE READ\n";
    assert_eq!((code, said.as_str(), error.as_str()), (0, whole, "feed: warning: geometry: lost\n"));
    let (code, said, _) = answered(
        r#"{"accepted":[{"event_id":"e1","revision":0,"duplicate":false,"expired":false,"geometry":"ok","warnings":[],
        "acknowledged_by":"queue","topic":"t","drill":false}],"rejected":[]}"#,
    );
    assert_eq!((code, said.as_str()), (3, "e1 revision 0 for t: queued: it is kept, and not at the broker yet\n"));
    let (code, said, _) = answered(
        r#"{"accepted":[{"event_id":"e1","revision":0,"duplicate":false,"expired":false,"geometry":"ok","warnings":[],
        "acknowledged_by":"queue","topic":"t","drill":true}],"rejected":[]}"#,
    );
    assert_eq!((code, said.as_str()), (0, "e1 revision 0 for t: a drill: it is kept, and goes the way of NORMAL\n"));
}

#[test]
fn variables_mean_the_same_for_every_command_and_a_flag_beats_them() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let (url, data) = (system.url(""), start.data.to_str().unwrap());
    // As for `up`: embedded:PORT.
    let variables = [
        ("STREAMMANAGER_KAFKA", &*start.kafka),
        ("STREAMMANAGER_ENDPOINT", &url),
        ("STREAMMANAGER_DATA", data),
        ("STREAMMANAGER_JSON", "1"),
    ];
    let with = |json: &'static str| [&variables[..3], &[("STREAMMANAGER_JSON", json)]].concat();
    for yes in ["1", "true"] {
        let (code, listed, error) = run(folder.path(), &with(yes), &["topics", "list"]);
        assert_eq!(code, 0, "{error}");
        assert!(listed.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{listed}");
        assert_eq!(listed.lines().count(), Topic::ALL.len(), "{listed}");
    }
    for no in ["0", "false"] {
        let (code, listed, error) = run(folder.path(), &with(no), &["streams", "list"]);
        assert!(code == 0 && listed.starts_with("stream "), "{listed}{error}");
    }
    let (code, listed, error) = run(folder.path(), &variables, &["connectors", "list"]);
    assert!(code == 0 && listed.starts_with("{\"connectors\":"), "{listed}{error}");
    let other = folder.path().join("other");
    let (code, _, error) = run(folder.path(), &variables, &["connectors", "list", "--data", other.to_str().unwrap()]);
    assert!(code == 1 && error.contains("other/control.key"), "{error}");

    // The sink is the one that the flag names; the variable stands for a running system's Kafka.
    std::fs::write(folder.path().join("rows.csv"), ROWS).unwrap();
    let ingest = ["ingest", "--source", "firms_viirs_noaa20", "--data", "own", "--out", "sink", "rows.csv"];
    let (code, said, error) = run(folder.path(), &with("0"), &ingest);
    assert_eq!(code, 3, "{said}{error}");
    for line in [
        "rows.csv: 2 records read, 1 rejected\n",
        "accepted 1 (new 1, revisions 0), duplicates 0\n",
        "rejected 1, kept as dead letters: bad_latitude\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    assert!(folder.path().join("sink/wildfire-nasa-firms.ndjson").is_file());
    assert_eq!(system.count("wildfire-nasa-firms"), 0, "the variable decided where records went");
}

const ROWS: &str = "\
latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight
38.1,-120.5,330.1,0.4,0.4,2026-01-05,0930,N20,VIIRS,n,2.0NRT,290.1,4.2,D
95.0,-120.5,330.1,0.4,0.4,2026-01-05,0930,N20,VIIRS,n,2.0NRT,290.1,4.2,D
";

/// `--help` of every command, found by walking the lists of commands.
#[test]
fn every_command_says_what_it_does_and_shows_an_example() {
    let mut open = vec![Vec::<String>::new()];
    let mut abouts = std::collections::BTreeSet::new();
    while let Some(path) = open.pop() {
        let ended = Command::new(binary()).args(&path).arg("--help").output().unwrap();
        let help = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success() && abouts.insert(help.lines().next().unwrap().to_owned()), "{path:?}: {help}");
        let section = |name: &str| {
            let lines = help.lines().skip_while(|line| *line != name).skip(1);
            lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        for line in section("Arguments:").iter().chain(&section("Options:")) {
            let item = line.trim_start();
            // What is indented further goes on with a description.
            if line.len() - item.len() <= 6 {
                let says = item.split_once("  ").map_or("", |(_, says)| says.trim_start());
                assert!(!says.is_empty() && !says.starts_with('['), "{path:?}: {line} has no description");
            }
        }
        let commands = section("Commands:");
        let example = section("Example:");
        assert!(path.is_empty() || example[0].contains(&path.join(" ")), "{path:?}: {help}");
        let names =
            commands.iter().filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap());
        open.extend(names.filter(|name| *name != "help").map(|name| [&path[..], &[name.to_owned()]].concat()));
    }
    assert!(abouts.len() > 25, "{abouts:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let _system = System::up(&start);
    let mut command = Command::new(binary());
    command.args(["topics", "list", "--kafka", &start.kafka]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_a_rejected_records_bytes_are_shown_whatever_their_size() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let key = system.sender("butte").await;
    let url = system.url("/");
    let variables = [("STREAMMANAGER_ENDPOINT", &*url), ("STREAMMANAGER_DATA", start.data.to_str().unwrap())];
    for body in ["neither JSON nor XML".to_owned(), "x".repeat(20_000)] {
        assert_eq!(system.alert(&key, body.clone()).await.unwrap().0, 422);
        let (code, listed, error) = run(folder.path(), &variables, &["dead-letters", "list", "--json"]);
        assert_eq!(code, 0, "{error}");
        let mut letters = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let letter = letters.find(|letter| letter["raw_bytes"] == body.len()).expect("it is listed");
        let id = letter["id"].as_str().unwrap();
        let (code, shown, error) = run(folder.path(), &variables, &["dead-letters", "show", id]);
        assert_eq!(code, 0, "{error}");
        assert!(shown.contains("not_data") && shown.contains(&body), "{shown}");
        let (_, raw, _) = run(folder.path(), &variables, &["dead-letters", "show", id, "--raw"]);
        assert_eq!(raw, body);
    }
    // Of what came over MQTT it says where, and who sent it.
    let mut sensor = Publisher::connect(("127.0.0.1", system.mqtt), "a-gateway").unwrap();
    sensor.publish("sensors/generic/roof/state", b"{\"cut").unwrap();
    let announced = system.messages("wildfire-dead-letters", 3);
    let letter = announced.iter().find(|letter| letter["value"]["source_id"] == "iot_generic").unwrap();
    let (code, shown, error) =
        run(folder.path(), &variables, &["dead-letters", "show", letter["value"]["event_id"].as_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    for line in ["topic        sensors/generic/roof/state", "client       a-gateway", "sensor       roof", "{\"cut"] {
        assert!(shown.contains(line), "{line:?} is not in {shown}");
    }
    // A terminal obeys control characters: what a stranger wrote is shown with escapes, and as it is by `--raw` alone.
    let hostile = "\u{1b}]0;all clear\u{7}\u{9b}2J\u{202e}\tin\ntwo lines";
    assert_eq!(system.alert(&key, hostile).await.unwrap().0, 422);
    let (_, listed, _) = run(folder.path(), &variables, &["dead-letters", "list", "--json"]);
    let mut letters = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let letter = letters.find(|letter| letter["raw_bytes"] == hostile.len()).expect("it is listed");
    let id = letter["id"].as_str().unwrap();
    let (_, shown, _) = run(folder.path(), &variables, &["dead-letters", "show", id]);
    let want = "\\u{1b}]0;all clear\\u{7}\\u{9b}2J\\u{202e}\tin\ntwo lines";
    assert!(shown.contains(want), "{shown:?}");
    let (_, raw, _) = run(folder.path(), &variables, &["dead-letters", "show", id, "--raw"]);
    assert_eq!(raw, hostile);
    let mut stranger = Publisher::connect(("127.0.0.1", system.mqtt), "a-gateway").unwrap();
    stranger.publish("sensors/generic/ro\u{9b}of/state", b"{\"cut again").unwrap();
    system.messages("wildfire-dead-letters", 5);
    let (_, listed, _) = run(folder.path(), &variables, &["dead-letters", "list"]);
    assert!(listed.lines().count() >= 5, "{listed}");
    assert!(listed.chars().all(|char| char == '\n' || !char.is_control()), "{listed:?}");
    let (code, _, error) = run(folder.path(), &variables, &["dead-letters", "show", &"0".repeat(32)]);
    assert!(code == 1 && error.contains("there is no dead letter"), "{error}");
}

#[test]
fn r4_dead_letters_are_explained_redriven_and_purged_by_command() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let url = system.url("/");
    let variables = [("STREAMMANAGER_ENDPOINT", &*url), ("STREAMMANAGER_DATA", start.data.to_str().unwrap())];
    let run = |arguments: &[&str]| run(folder.path(), &variables, &[&["dead-letters"], arguments].concat());
    let said = |arguments: &[&str]| {
        let (code, said, error) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}{error}");
        said
    };
    assert_eq!(said(&["list", "--stream", "nope"]), "there are no dead letters of stream nope\n");
    assert_eq!(said(&["list", "--stream", "nope", "--json"]), "", "nothing but letters, one a line");
    assert_eq!(said(&["explain"]), "there are no dead letters\n");

    let mut sensor = Publisher::connect(("127.0.0.1", system.mqtt), "a-gateway").unwrap();
    for payload in [&b"{\"cut"[..], &b"\xff\xfe\xfdnot a text"[..]] {
        sensor.publish("sensors/generic/roof/state", payload).unwrap();
    }
    system.messages("wildfire-dead-letters", 2);
    let explained = said(&["explain"]);
    for part in ["1 × bad_json", "stream iot_generic", "what to do: ", "EOF while parsing a string"] {
        assert!(explained.contains(part), "{part:?} is not in {explained}");
    }
    let listed = said(&["list", "--json"]);
    let letters: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let binary = letters.iter().find(|letter| letter["raw_bytes"] == 13).unwrap()["id"].as_str().unwrap();
    let shown = said(&["show", binary]);
    assert!(shown.contains("13 bytes that are not text") && shown.contains("//79bm90IGEgdGV4dA=="), "{shown}");

    // What fails again is not done, and says so.
    let (code, redriven, _) = run(&["redrive", "--stream", "iot_generic"]);
    assert!(code == 3 && redriven.contains("redriven: 2 failed again and stay dead letters"), "{code}: {redriven}");
    let (code, redriven, error) = run(&["redrive", binary, "--json"]);
    let line: Value = serde_json::from_str(&redriven).unwrap();
    assert_eq!((code, &line["outcome"], &line["id"]), (3, &"failed".into(), &binary.into()), "{error}");
    assert!(said(&["show", binary]).contains("attempts     3"));
    assert_eq!(said(&["redrive", "--reason", "bad_time"]), "there are no dead letters with reason bad_time\n");
    let unknown = "0".repeat(32);
    for command in [&["redrive", &unknown][..], &["purge", &unknown, "--yes"]] {
        let (code, _, error) = run(command);
        assert!(code == 1 && error.contains("there is no dead letter"), "{command:?}: {error}");
    }
    for command in [&["redrive"][..], &["purge", "--yes"], &["redrive", "--all", "--stream", "x"], &["purge", "--all"]]
    {
        let (code, _, error) = run(command);
        assert!(code == 2 && !error.is_empty(), "{command:?}: {error}");
    }
    let (_, _, error) = run(&["purge", "--all"]);
    assert!(error.contains("add --yes"), "{error}");

    assert_eq!(said(&["purge", "--all", "--older-than", "1d", "--yes"]), "there are no dead letters that are so old\n");
    assert_eq!(said(&["purge", binary, "--yes"]), "deleted for good: 1\n");
    assert_eq!(said(&["purge", "--reason", "bad_json", "--yes", "--json"]), "{\"kept\":0,\"purged\":1}\n");
    assert_eq!(said(&["list"]), "there are no dead letters\n");
}
