//! Recorded FIRMS files against what independent parsers found in them [S1, S9]. The samples' facts are the judge.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use streammanager::decode::Context;
use streammanager::error::{Reason, Reject};
use streammanager::record::{Draft, SourceId};
use streammanager::sources::firms;
use streammanager::time::{Timestamp, rfc3339};
use streammanager_tests::{samples, unpacked};

fn decode(body: &Bytes) -> Result<Vec<Result<Draft, Reject>>, Reject> {
    let source = SourceId::new("firms_modis").unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    firms::FORMAT.rows(body, context).map(Iterator::collect)
}

#[test]
fn every_file_agrees_with_its_facts() {
    let Some(samples) = samples("FIRMS samples") else { return };
    let facts: serde_json::Value = serde_json::from_slice(&unpacked(&samples.join("facts.json"))).unwrap();
    let mut files = 0;
    for (path, fact) in facts["files"].as_object().unwrap() {
        let facts = &fact["facts"];
        if path.starts_with("firms_errors/") {
            let reject = decode(&unpacked(&samples.join(path))).map(|rows| rows.len()).unwrap_err();
            assert_eq!(reject.reason, Reason::NotData, "{path}");
        } else if path.starts_with("firms_csv/") {
            let rows = decode(&unpacked(&samples.join(path))).unwrap_or_else(|e| panic!("{path}: {e}"));
            let rejected: Vec<u64> = rows.iter().filter_map(|row| row.as_ref().err()).filter_map(|r| r.row).collect();
            let drafts: Vec<Draft> = rows.into_iter().flatten().collect();
            assert_eq!(serde_json::json!(rejected), facts["rejected_row_numbers"], "{path}");
            assert_eq!(drafts.len() as u64, facts["valid_records"].as_u64().unwrap(), "{path}");
            agree(path, facts, &drafts);
        } else if path.starts_with("firms_json/") {
            let rows = decode(&unpacked(&samples.join(path))).unwrap_or_else(|e| panic!("{path}: {e}"));
            if facts.get("parse").is_some() {
                // Each of the outer list's items is a list: none is a feature.
                assert!(rows.iter().all(|row| row.as_ref().is_err_and(|e| e.reason == Reason::BadJson)), "{path}");
                assert_eq!(rows.len() as u64, facts["outer"].as_u64().unwrap(), "{path}");
            } else {
                let drafts: Vec<Draft> =
                    rows.into_iter().map(|row| row.unwrap_or_else(|e| panic!("{path}: {e}"))).collect();
                assert_eq!(drafts.len() as u64, facts["rows"].as_u64().unwrap(), "{path}");
                agree(path, facts, &drafts);
            }
        } else {
            continue;
        }
        files += 1;
    }
    assert!(files >= 22, "only {files} files were compared");
}

fn agree(path: &str, facts: &serde_json::Value, drafts: &[Draft]) {
    let data: Vec<serde_json::Value> =
        drafts.iter().map(|draft| serde_json::from_str(draft.data.json()).unwrap()).collect();
    let frp: Vec<f64> = data.iter().filter_map(|data| data["frp"].as_f64()).collect();
    assert_eq!(frp.len() as u64, facts["frp_values"].as_u64().unwrap(), "{path}");
    let sum: f64 = frp.iter().sum();
    assert!((sum - facts["sum_frp"].as_f64().unwrap()).abs() < 0.01, "{path}: FRP {sum}");
    let mut satellites: BTreeMap<&str, u64> = BTreeMap::new();
    for (satellite, n) in facts["satellite"].as_object().unwrap() {
        // Records name each in one way, whichever way its file spells it.
        let name = match satellite.as_str() {
            "T" => "Terra",
            "A" => "Aqua",
            "1" => "N20",
            "2" => "N21",
            "Suomi NPP" => "N",
            other => other,
        };
        *satellites.entry(name).or_default() += n.as_u64().unwrap();
    }
    for (satellite, n) in satellites {
        let found = data.iter().filter(|data| data["satellite"] == satellite).count();
        assert_eq!(found as u64, n, "{path}: {satellite}");
    }
    if let Some(confidence) = facts.get("confidence_numeric") {
        let sum: f64 = data.iter().filter_map(|data| data["confidence_percent"].as_f64()).sum();
        assert_eq!(Some(sum), confidence["sum"].as_f64(), "{path}");
    }
    if let Some(first) = drafts.iter().map(|draft| draft.observed_at).min() {
        let last = drafts.iter().map(|draft| draft.observed_at).max().unwrap();
        let seen = [first, last].map(|at| rfc3339(at).replace(".000", ""));
        assert_eq!(serde_json::json!(seen), serde_json::json!([facts["earliest_utc"], facts["latest_utc"]]), "{path}");
        let north = drafts.iter().filter_map(|draft| draft.position).map(|at| at.latitude()).fold(-91.0, f64::max);
        assert_eq!(Some(north), facts["max_lat"].as_f64(), "{path}");
    }
}

#[test]
fn mutated_files_never_panic() {
    let Some(samples) = samples("FIRMS mutations") else { return };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for file in ["derived_quirks_open.csv", "derived_api_area_SNPP_CA_crlf_bom.csv", "MODIS_C5_24h_2015-09-19.csv"] {
        let original = unpacked(&samples.join("firms_csv").join(file));
        let original = original.slice(..original.len().min(2_000));
        for _ in 0..2_000 {
            let mut bytes = original.to_vec();
            for _ in 0..1 + draw(6) {
                let at = draw(bytes.len());
                bytes[at] = draw(256) as u8;
            }
            let body = Bytes::from(bytes);
            let judged = firms::rows::check_header(&body).is_ok();
            assert_eq!(decode(&body).is_ok(), judged, "{file}");
        }
    }
}
