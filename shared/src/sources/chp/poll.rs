//! The incidents of the California Highway Patrol's dispatch centres, polled from its public file [S16]: one of the whole state,
//! renewed every minute.

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::logs::Logs;
use super::{FORMAT, logged};
use crate::connect::checked::{Check, Checked, File};
use crate::connect::feed::{Ask, Feed};
use crate::connect::politeness::Manners;
use crate::decode::items;
use crate::record::SourceId;
use crate::sources::{Service, Services, WrongField};

pub(in crate::sources) static SERVICE: Service = Service {
    name: "California Highway Patrol incidents",
    address: "https://media.chp.ca.gov",
    address_setting: "CHP_BASE_URL",
    address_parameter: "ChpBaseUrl",
    key_setting: None,
    manners: Manners { a_minute: 6, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

/// In the whole state something is logged every few minutes, also at night.
const FROZEN: Duration = Duration::from_secs(2 * 3600);

/// A CHP stream's `config`: it has nothing to set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ChpConfig")]
pub struct Config {}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        Ok(())
    }
}

pub(in crate::sources) fn connector(_: Config, _: SourceId, services: &Services) -> Result<Checked<Dispatch>, String> {
    let asks = vec![Ask { name: "incidents".into(), path: "/sa_xml/sa.xml".into() }];
    let base_url = services.address(&SERVICE).to_owned();
    Ok(Checked { feed: Feed { base_url, asks, accept: "application/xml, text/xml", format: FORMAT }, check: Dispatch })
}

/// What is known of the file.
pub(in crate::sources) struct Dispatch;

impl Check for Dispatch {
    fn frozen_after(&self) -> Duration {
        FROZEN
    }

    /// Its time is that of an incident alone, which is true whatever the file's age.
    fn publishes_frozen(&self) -> bool {
        true
    }

    fn file(&self, _: &Ask, body: &Bytes) -> File {
        let mut logs = match Logs::read(body) {
            Ok(logs) => logs,
            Err(reject) => {
                let said = items::problem(body).unwrap_or(reject);
                return File { problem: Some(said.to_string()), ..File::default() };
            }
        };
        let (mut whole, mut newest) = (0_usize, None);
        for log in logs.by_ref() {
            whole += 1;
            newest = newest.max(log.time().and_then(|text| logged(&text)).map(|(at, _)| at));
        }
        let cut = logs.is_cut();
        let problem = match (cut, whole) {
            (true, 0) => Some("it is cut before its first incident".to_owned()),
            (true, _) => {
                let bytes = body.len();
                Some(format!(
                    "it is cut after {bytes} bytes: {whole} incidents came, and nothing is known of the others"
                ))
            }
            (false, 0) => Some("it has no incident at all, which is no all-clear".to_owned()),
            (false, _) => None,
        };
        File { body: (whole > 0).then(|| body.clone()), newest, problem, cut }
    }
}
