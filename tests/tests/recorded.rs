//! `decode` of recorded files that nobody names a format for, and what it draws of them [S8, S9, A6].

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use streammanager_tests::binary;
use streammanager_tests::generated::{cap, firms};
use tempfile::tempdir;

const READING: &str = r#"{"id": "s1", "time": 1788289000, "temperature_c": 21, "latitude": 38.5, "longitude": -121.5}"#;

fn decode(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).arg("decode").args(arguments).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn values(output: &Output) -> Vec<Value> {
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn s8_files_of_several_formats_are_read_at_once_and_nobody_names_them() {
    let folder = tempdir().unwrap();
    let files = firms::files(20);
    std::fs::write(folder.path().join("a"), &files[0].text).unwrap();
    std::fs::write(folder.path().join("b"), &cap::chain()[0]).unwrap();
    std::fs::write(folder.path().join("c"), READING).unwrap();
    let utf16: Vec<u8> = format!("\u{feff}{}", files[7].text).encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("d"), utf16).unwrap();
    let ended = decode(folder.path(), &["a", "b", "c", "d"]);
    let mut sources: Vec<String> =
        values(&ended).iter().map(|value| value["source_id"].as_str().unwrap().to_owned()).collect();
    sources.dedup();
    assert_eq!(
        sources,
        ["firms_viirs_snpp", "life_safety_recorded", "iot_recorded", "historical_firms"],
        "{}",
        said(&ended)
    );
    for told in [
        "a: read as firms, as source firms_recorded",
        "b: read as alert",
        "c: read as sensor",
        "d: read as firms, as source historical_firms",
    ] {
        assert!(said(&ended).contains(told), "{told}: {}", said(&ended));
    }
    assert_eq!(ended.status.code(), Some(3), "some rows are wrong");
}

#[test]
fn s8_standard_input_is_recognised_too_and_what_is_not_says_what_it_looks_like() {
    let mut child =
        Command::new(binary()).args(["decode", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(READING.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), values(&ended).len()), (Some(0), 1));

    let folder = tempdir().unwrap();
    for (body, words) in [
        (&b"a,b,c\n1,2,3\n"[..], "is a table with the columns a, b, c, and no format is known by that"),
        (b"{\"x\": [{\"y\": 1}]}", "is JSON with the names x, y"),
        (b"CDF\x01", "is NetCDF, which is not read yet"),
        (b"<kml/>", "is XML that begins"),
        (b"", "is empty"),
        (
            br#"{"messageType": "Alert", "sent": "t", "status": "s", "mission": "m", "poly_DateCurrent": 1}"#,
            "which alert and firis have",
        ),
    ] {
        std::fs::write(folder.path().join("in"), body).unwrap();
        let ended = decode(folder.path(), &["in"]);
        assert!(said(&ended).contains(words) && ended.stdout.is_empty(), "{words}: {}", said(&ended));
        assert_eq!(ended.status.code(), Some(3));
    }
    std::fs::write(folder.path().join("in"), READING).unwrap();
    let ended = decode(folder.path(), &["--format", "sensor", "in"]);
    assert_eq!((ended.status.code(), said(&ended).as_str()), (Some(0), ""), "what is named is not recognised again");
}

#[test]
fn a6_a_page_takes_nothing_that_a_sender_wrote_for_markup_and_needs_no_network() {
    let folder = tempdir().unwrap();
    let hostile = READING.replace("s1", "</script><script>alert(1)</script>");
    std::fs::write(folder.path().join("hostile"), hostile).unwrap();
    std::fs::write(folder.path().join("fires"), &firms::files(20)[0].text).unwrap();
    std::fs::write(folder.path().join("alert"), &cap::chain()[0]).unwrap();
    let ended = decode(folder.path(), &["--map", "out.html", "--map", "out.geojson", "hostile", "fires", "alert"]);
    assert!(said(&ended).contains("out.html: "), "{}", said(&ended));
    let collection: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out.geojson")).unwrap()).unwrap();
    let features = collection["features"].as_array().unwrap();
    let placed = values(&ended).into_iter().filter(|value| !value["geometry"].is_null()).collect::<Vec<_>>();
    assert_eq!(features.len(), placed.len());
    for (feature, value) in features.iter().zip(&placed) {
        assert_eq!(feature["geometry"], value["geometry"]);
        let told = &feature["properties"];
        assert_eq!(
            (&told["event_id"], &told["source_id"], &told["observed_at"], &told["tier"]),
            (&value["event_id"], &value["source_id"], &value["observed_at"], &value["priority"])
        );
        assert!(told["label"].as_str().is_some_and(|label| !label.is_empty() && !label.contains('\n')), "{told}");
    }
    let page = std::fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert_eq!(page.matches("<script").count(), 3, "two of data, one of the page");
    for outside in ["http://", "https://", "src=", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("Butte") && page.contains("\\u003c/script\\u003e"));
    assert_eq!(decode(folder.path(), &["--map", "out.png", "fires"]).status.code(), Some(2));
}

#[test]
fn s9_ten_thousand_records_are_one_page_of_a_few_megabytes() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("fires"), &firms::files(10_000)[0].text).unwrap();
    let ended = decode(folder.path(), &["--map", "out.html", "fires"]);
    assert!(said(&ended).contains("out.html: 999"), "{}", said(&ended));
    let size = std::fs::metadata(folder.path().join("out.html")).unwrap().len();
    assert!((1_000_000..12_000_000).contains(&size), "{size}");
}
