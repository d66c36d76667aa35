//! FIRMS files of every dialect [S1, S9].

use bytes::Bytes;
use streammanager::decode::{Context, Row};
use streammanager::error::{Reason, Reject};
use streammanager::record::{Draft, SourceId};
use streammanager::sources::firms;
use streammanager::time::{Timestamp, rfc3339};
use streammanager_tests::generated::firms::{NO_DATA, files};

fn decode(body: &Bytes, source: &str) -> Result<Vec<Row>, Reject> {
    let source = SourceId::new(source).unwrap();
    let context = Context { source: &source, received_at: Timestamp::UNIX_EPOCH, topic: None, message: None };
    firms::FORMAT.rows(body, context).map(Iterator::collect)
}

#[test]
fn s1_every_dialect_is_read_to_the_facts_that_it_was_made_with() {
    for file in files(2_000) {
        let (name, facts) = (file.name, &file.facts);
        let rows = decode(&Bytes::from(file.text.clone()), file.source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let rejects: Vec<&Reject> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        assert_eq!(rejects.iter().filter_map(|reject| reject.row).collect::<Vec<_>>(), facts.rejected, "{name}");
        assert!(rejects.iter().all(|reject| !reject.raw.is_empty()), "{name}: a refused row keeps its bytes");
        let drafts: Vec<Draft> = rows.iter().flatten().cloned().collect();
        assert_eq!(drafts.len(), facts.valid, "{name}");
        for (source, n) in &facts.sources {
            assert_eq!(drafts.iter().filter(|draft| draft.source.as_str() == *source).count(), *n, "{name}: {source}");
        }
        let frp: Vec<f64> = drafts
            .iter()
            .filter_map(|draft| serde_json::from_str::<serde_json::Value>(draft.data.json()).unwrap()["frp"].as_f64())
            .collect();
        assert_eq!(frp.len(), facts.frp_values, "{name}");
        assert!((frp.iter().sum::<f64>() - facts.frp_sum).abs() < 0.01, "{name}");
        let times = || drafts.iter().map(|draft| draft.observed_at);
        let ends = [times().min(), times().max()].map(|at| at.map_or(String::new(), rfc3339));
        assert_eq!(ends, [facts.earliest.clone(), facts.latest.clone()], "{name}");
    }
}

#[test]
fn s1_what_the_service_says_instead_of_data_is_no_data() {
    for text in NO_DATA {
        assert_eq!(decode(&Bytes::from(text), "firms_modis").unwrap_err().reason, Reason::NotData, "{text:?}");
    }
}

#[test]
fn a6_mutated_files_never_panic_and_the_header_alone_decides() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for file in files(14) {
        for _ in 0..1_000 {
            let mut bytes = file.text.clone().into_bytes();
            for _ in 0..1 + draw(6) {
                let at = draw(bytes.len());
                bytes[at] = draw(256) as u8;
            }
            let body = Bytes::from(bytes);
            let judged = firms::rows::check_header(&body).is_ok();
            assert_eq!(decode(&body, file.source).is_ok(), judged, "{}", file.name);
        }
    }
}
