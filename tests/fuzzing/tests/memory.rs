//! What a decoder takes in memory for each byte of an input, over bodies that are made to take much of it [A6]. One test, for the
//! allocator counts for the whole process.

use std::collections::BTreeMap;

use bytes::Bytes;
use peak_alloc::PeakAlloc;
use streammanager_fuzz::laws::{allowed, memory};
use streammanager_fuzz::target::{Target, names};
use streammanager_fuzz::{mutation, seeds};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// As long as a reading that is pushed.
const LENGTH: usize = 128 * 1024;

/// Bodies of one part over and over, in the frames in which the decoders look for their rows.
fn hostile() -> Vec<(String, Bytes)> {
    let parts = [
        "{}",
        "[]",
        "0",
        "\"\"",
        r#"{"":0}"#,
        r#"{"a":{}}"#,
        r#"{"attributes":{}}"#,
        r#"{"properties":{"a":0}}"#,
        "1e999",
        "12345678901234567890",
        r#"{"type":"Feature","geometry":{"type":"MultiPoint","coordinates":[[1,2]]},"properties":{}}"#,
    ];
    let frames = [
        "[@]",
        r#"{"features":[@]}"#,
        r#"{"Incidents":[@]}"#,
        r#"{"STATION":[@]}"#,
        r#"{"STATION":[{"STID":"A","OBSERVATIONS":{"air_temp_set_1":[@]}}]}"#,
        r#"{"fields":["sensor_index"],"data":[@]}"#,
        r#"{"fields":[@],"data":[[1]]}"#,
        r#"{"id":1,"list":[@]}"#,
        r#"{"sensors":[@]}"#,
        r#"{"features":[{"type":"Feature","properties":{"id":"A","a":[@]},"geometry":null}]}"#,
        r#"{"features":[{"type":"Feature","geometry":{"type":"LineString","coordinates":[@]},"properties":{}}]}"#,
        r#"{"id":"A","sender":"s","sent":"2025-08-14T14:05:00-07:00","status":"Actual","msgType":"Alert","event":"E","area":[@]}"#,
        r#"{"properties":{"periods":[@],"updateTime":"2024-03-26T08:28:04+00:00"},"geometry":null}"#,
    ];
    let mut made = Vec::new();
    for frame in frames {
        for part in parts {
            let room = LENGTH - frame.len();
            let times = room / (part.len() + 1);
            made.push((format!("{part} in {frame}"), frame.replace('@', &vec![part; times].join(","))));
        }
    }
    let members = |member: &str| vec![member; LENGTH / (member.len() + 1)].join(",");
    made.push(("one name again and again".into(), format!("{{{}}}", members(r#""":0"#))));
    made.push((
        "an id and one name again and again".into(),
        format!(r#"{{"id":"s","temperature_c":1,{}}}"#, members(r#""a":0"#)),
    ));
    let names: Vec<String> = (0..LENGTH / 9).map(|n| format!("\"{n:04x}\":0")).collect();
    made.push(("many names".into(), format!("{{{}}}", names.join(","))));
    for line in [
        "{}\n",
        "{\"id\":1}\n",
        "\n",
        ",",
        ",\n",
        "\"",
        "\",\"",
        "a\n",
        "<a>",
        "<a/>",
        "<a b='c'/>",
        "&lt;",
        "KOAK 121538Z 16013KT\n",
        "RMK ",
    ] {
        made.push((format!("{line:?}"), line.repeat(LENGTH / line.len())));
    }
    let head = "latitude,longitude,acq_date,acq_time,satellite,frp";
    made.push((
        "a row of a thousand cells".into(),
        format!("{head}\n{}", format!("{}\n", ",".repeat(1_000)).repeat(LENGTH / 1_001)),
    ));
    made.push(("one row of many cells".into(), format!("{head}\n{}", ",".repeat(LENGTH))));
    made.push(("a header of many columns".into(), format!("{head}{}\n1,2\n", ",x".repeat(LENGTH / 2))));
    let open = "<alert xmlns='urn:oasis:names:tc:emergency:cap:1.2'>";
    for element in
        ["<info/>", "<code/>", "<info><area/></info>", "<info><parameter><valueName/><value/></parameter></info>"]
    {
        made.push((
            format!("an alert of {element}"),
            format!("{open}{}</alert>", element.repeat(LENGTH / element.len())),
        ));
    }
    for element in ["<area><polygon>1,2</polygon></area>", "<polygon>1,2 1,3 2,3 1,2</polygon>"] {
        let shapes = element.repeat(LENGTH / element.len());
        made.push((
            format!("areas of {element}"),
            format!("{open}<identifier>a</identifier><info>{shapes}</info></alert>"),
        ));
    }
    let points = "1.5,2.5 ".repeat(LENGTH / 8);
    made.push((
        "a long polygon".into(),
        format!("{open}<info><area><polygon>{points}</polygon></area></info></alert>"),
    ));
    made.into_iter().map(|(name, text)| (name, text.into())).collect()
}

#[test]
fn a6_a_decoder_takes_memory_in_proportion_to_its_input() {
    let mut bodies = hostile();
    for (n, seed) in seeds::generated().into_iter().enumerate() {
        let longer = (0..6).filter_map(|way| mutation::amplified(&seed, LENGTH, way)).map(Bytes::from);
        bodies.extend(longer.map(|body| (format!("generated {n}, a part of it over and over"), body)));
    }
    let (mut most, mut beyond) = (BTreeMap::<&str, (f64, &str)>::new(), Vec::new());
    for name in names() {
        let target = Target::named(name).expect("the table names it");
        for (what, body) in &bodies {
            let peak = memory(&target, body);
            if peak > allowed(body.len()) {
                beyond.push(format!("{name}: {peak} bytes for {} of input: {what}", body.len()));
            }
            let (each, worst) = (peak as f64 / body.len() as f64, most.entry(name).or_default());
            if each > worst.0 {
                *worst = (each, what);
            }
        }
    }
    for (name, (each, what)) in most {
        println!("{name:<18} {each:>6.1} bytes a byte: {what}");
    }
    assert!(beyond.is_empty(), "{beyond:#?}");
}
