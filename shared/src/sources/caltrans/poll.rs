//! Caltrans's lane closures polled from its public files, one a district [S16]. They have no contract. Each is renewed every few
//! minutes, and each row in it repeats when that was: a file that has stopped is known by it, and none of it is published.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FORMAT, LIST, OWN};
use crate::connect::checked::{Check, Checked, File};
use crate::connect::feed::{Ask, Feed};
use crate::connect::politeness::Manners;
use crate::decode::{encoding, salvage};
use crate::record::SourceId;
use crate::sources::{Service, Services, WrongField};
use crate::time::Timestamp;

pub(in crate::sources) static SERVICE: Service = Service {
    name: "Caltrans lane closures",
    address: "https://cwwp2.dot.ca.gov",
    address_setting: "CALTRANS_BASE_URL",
    address_parameter: "CaltransBaseUrl",
    key_setting: None,
    // Files of up to 4 MB that are renewed every five minutes.
    manners: Manners { a_minute: 24, least_interval: Duration::from_secs(60), apart: Some(Duration::from_millis(250)) },
};

/// Six renewals that did not come.
const FROZEN: Duration = Duration::from_secs(30 * 60);

/// Caltrans's districts.
pub(super) const DISTRICTS: std::ops::RangeInclusive<u8> = 1..=12;

/// A Caltrans stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CaltransConfig")]
pub struct Config {
    /// Caltrans's districts, 1 to 12; each is one request.
    pub districts: Vec<u8>,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        self.districts.len()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        let wrong = |rule: String| Err(WrongField::new("districts", rule));
        if self.districts.is_empty() {
            return wrong("is empty: it takes 1 to 12 districts".into());
        }
        for (at, district) in self.districts.iter().enumerate() {
            if !DISTRICTS.contains(district) {
                return wrong(format!("{district} is not in 1..12"));
            }
            if self.districts[..at].contains(district) {
                return wrong(format!("{district} is given twice"));
            }
        }
        Ok(())
    }
}

pub(in crate::sources) fn connector(
    config: Config,
    _: SourceId,
    services: &Services,
) -> Result<Checked<Districts>, String> {
    let ask = |district: &u8| Ask {
        name: format!("D{district:02}"),
        path: format!("/data/d{district}/lcs/lcsStatusD{district:02}.json"),
    };
    let asks = config.districts.iter().map(ask).collect();
    let base_url = services.address(&SERVICE).to_owned();
    Ok(Checked { feed: Feed { base_url, asks, accept: "application/json", format: FORMAT }, check: Districts })
}

/// What is known of a district's file.
pub(in crate::sources) struct Districts;

impl Check for Districts {
    fn frozen_after(&self) -> Duration {
        FROZEN
    }

    fn publishes_frozen(&self) -> bool {
        false
    }

    fn file(&self, ask: &Ask, body: &Bytes) -> File {
        let found = match salvage::read(body, LIST, OWN) {
            Ok(found) => found,
            Err(reject) => return File { problem: Some(reject.to_string()), ..File::default() },
        };
        let (cut, rows) = (found.cut, found.items.len());
        if rows == 0 {
            let problem = if cut {
                "it is cut before its first closure"
            } else {
                "it is empty, which no district's file is: it is broken, and says nothing of the closures of the last one"
            };
            return File { problem: Some(problem.into()), cut, ..File::default() };
        }
        let newest = found.items.iter().filter_map(stamp).max();
        let problem = match (&found.damage, newest) {
            (Some(_), _) if cut => Some(format!("it is cut after {rows} whole closures: the others are missing")),
            (Some(damage), _) => Some(format!("it is damaged ({damage}), and what can be read of it was taken")),
            (None, None) => Some("it does not say when it was made: how old it is cannot be told".into()),
            (None, Some(_)) => None,
        };
        File { body: Some(of_district(body, &ask.name)), newest, problem, cut }
    }
}

/// The file's own time, which each row repeats.
fn stamp(item: &Bytes) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Row {
        lcs: Stamped,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stamped {
        record_timestamp: Stamp,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stamp {
        record_epoch: Value,
    }
    let row: Row = serde_json::from_slice(item).ok()?;
    super::epoch(&row.lcs.record_timestamp.record_epoch)
}

/// What stands before a body's first member when it was polled: its rows need not tell their district.
const MARK: &[u8] = b"{\"streammanager\":{\"district\":\"";

fn of_district(body: &Bytes, name: &str) -> Bytes {
    let text = encoding::without_mark(body).trim_ascii_start();
    let Some(members) = text.strip_prefix(b"{") else { return body.clone() };
    let mut marked = BytesMut::with_capacity(body.len() + 64);
    for part in [MARK, name.trim_start_matches('D').as_bytes(), b"\"},", members] {
        marked.put_slice(part);
    }
    marked.freeze()
}

/// The district whose file a body is, where it was polled.
pub(super) fn district(body: &[u8]) -> Option<u8> {
    let digits = body.strip_prefix(MARK)?.get(..2)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
