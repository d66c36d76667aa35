//! A double of the services of stations and air quality: Synoptic, PurpleAir and AirNow, and of the archives of `archives.rs`, each
//! by its address, with faults that can be switched while it runs, or strike from one of its requests on, and with what it was asked. It answers without a network.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::settings::{Secret, Settings};
use streammanager::sources::Services;
use streammanager::time::Timestamp;
use streammanager::upstream::{Request, Response, Unreachable, Upstream};

use crate::archives::{self, Answer};

/// The only key that it takes.
pub const KEY: &str = "k3y-0f-th3-t3sts";

/// How it answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// No connection.
    Away,
    /// It does not answer in time.
    Slow,
    /// 429, with `Retry-After` in seconds or without.
    Busy(Option<u32>),
    /// 403 with a page, as a content delivery network refuses a client.
    Forbidden,
    /// 500 with a text that repeats the address.
    Broken,
    /// A web page under the status 200.
    PageIn200,
    /// The service's own error under the status 200.
    ErrorIn200,
    /// Half of a body.
    Short,
    /// Nothing at all under the status 200.
    Empty,
    /// To another host.
    Moved,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub url: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub status: u16,
}

/// A station's value at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub id: String,
    pub at: Timestamp,
    pub value: Option<f64>,
}

impl Measured {
    pub fn new(id: &str, at: &str, value: impl Into<Option<f64>>) -> Measured {
        Measured { id: id.into(), at: at.parse().expect("a time"), value: value.into() }
    }
}

#[derive(Default)]
struct State {
    fault: Fault,
    /// Requests that it spares.
    spared: usize,
    /// What stations and sensors have measured.
    measured: Vec<Measured>,
    /// PurpleAir's `data_time_stamp`.
    data_at: i64,
    /// Bodies that stand at an address instead, by the end of its path.
    bodies: BTreeMap<String, String>,
    asked: Vec<Asked>,
}

#[derive(Default)]
pub struct Stations {
    state: Mutex<State>,
}

/// Settings with a key of every service that asks for one.
pub fn settings(key: &str) -> Settings {
    let mut services = Services::default();
    for setting in streammanager::sources::services().filter_map(|service| service.key_setting) {
        services.set_key(setting, Secret::new(key));
    }
    Settings { services, ..Settings::local() }
}

impl Stations {
    pub fn fails(&self, fault: Fault) {
        self.fails_behind(0, fault);
    }

    /// The same once so many more requests were answered well.
    pub fn fails_behind(&self, spared: usize, fault: Fault) {
        let mut state = self.state.lock();
        (state.fault, state.spared) = (fault, spared);
    }

    /// From now on this is what was measured.
    pub fn measured(&self, measured: &[Measured]) {
        self.state.lock().measured = measured.to_vec();
    }

    /// PurpleAir's data are of this time.
    pub fn data_at(&self, at: Timestamp) {
        self.state.lock().data_at = at.as_second();
    }

    /// What stands at an address of the services' own, where a path ends so: AirNow's files and its answers, or instead of the others'.
    pub fn stands_at(&self, path: &str, body: &str) {
        self.state.lock().bodies.insert(path.into(), body.into());
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().asked)
    }
}

#[async_trait]
impl Upstream for Stations {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        let fault = self.state.lock().fault();
        if fault == Fault::Slow {
            tokio::time::sleep(within).await;
            return Err(Unreachable::TimedOut(within));
        }
        let mut state = self.state.lock();
        let url = request.url.reveal().to_owned();
        let headers: BTreeMap<String, String> = request.headers.iter().cloned().collect();
        let (status, extra, body) = state.answer(&url, &headers, fault)?;
        state.asked.push(Asked { url, headers, status });
        Ok(Response { status, headers: extra, body: Bytes::from(body), elapsed: Duration::ZERO })
    }
}

impl State {
    /// What befalls the request that comes now.
    fn fault(&mut self) -> Fault {
        match self.spared.checked_sub(1) {
            Some(spared) => {
                self.spared = spared;
                Fault::None
            }
            None => self.fault,
        }
    }

    fn answer(&self, url: &str, headers: &BTreeMap<String, String>, fault: Fault) -> Result<Answer, Unreachable> {
        if let Some((_, body)) =
            self.bodies.iter().find(|(end, _)| end.ends_with(".csv") && url.ends_with(end.as_str()))
            && matches!(fault, Fault::None | Fault::Short)
        {
            return Ok(archives::range(body, headers, fault == Fault::Short));
        }
        let page = "<!DOCTYPE html><html><head><title>Access Denied</title></head></html>";
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let (status, body) = self.content(url, headers);
        Ok(match fault {
            Fault::None => {
                let tag =
                    format!("\"{:x}\"", body.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
                if headers.get("if-none-match") == Some(&tag) {
                    (304, header("etag", &tag), String::new())
                } else {
                    (status, header("etag", &tag), body)
                }
            }
            Fault::Away | Fault::Slow => return Err(Unreachable::Failed("connection refused".into())),
            Fault::Busy(after) => {
                let extra = after.map_or(Vec::new(), |seconds| header("retry-after", &seconds.to_string()));
                (429, extra, "slow down".into())
            }
            Fault::Forbidden => (403, Vec::new(), page.into()),
            Fault::Broken => (500, Vec::new(), format!("cannot serve {url} for {KEY}")),
            Fault::PageIn200 => (200, Vec::new(), page.into()),
            Fault::ErrorIn200 => (200, Vec::new(), error(url)),
            Fault::Short => (200, Vec::new(), body[..body.len() / 2].to_owned()),
            Fault::Empty => (200, Vec::new(), String::new()),
            Fault::Moved => (302, header("location", "http://elsewhere.invalid/"), String::new()),
        })
    }

    fn content(&self, url: &str, headers: &BTreeMap<String, String>) -> (u16, String) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let own = self.bodies.iter().find(|(end, _)| path.ends_with(end.as_str())).map(|(_, body)| body.clone());
        if path.contains("/v2/stations/") {
            if query.get("token") != Some(&KEY) {
                return (200, summary(403, "Unauthorized. Invalid token."));
            }
            return (200, own.unwrap_or_else(|| self.synoptic(path.ends_with("/latest"), &query)));
        }
        if path.contains("/api/area/") || path.contains("/api/data_availability/") {
            return (200, archives::firms(path.split_once("://").map_or(path, |(_, path)| path)));
        }
        if path.ends_with("/GeoJsonList") {
            return (200, own.unwrap_or_else(|| archives::calfire(&query)));
        }
        if path.contains("/v1/sensors") {
            if headers.get("x-api-key").map(String::as_str) != Some(KEY) {
                return (403, json!({"api_version": "V1", "error": "ApiKeyInvalidError", "description": "The provided api_key was not valid."}).to_string());
            }
            if path.ends_with("/404/history") {
                return (404, json!({"api_version": "V1", "error": "NotFoundError", "description": "Cannot find a sensor with the provided parameters."}).to_string());
            }
            let is_history = path.ends_with("/history");
            return (
                200,
                own.unwrap_or_else(|| match is_history {
                    true => archives::purpleair(path, &query, &self.measured),
                    false => self.purpleair(&query),
                }),
            );
        }
        if path.ends_with("/aq/data/") && query.get("API_KEY") != Some(&KEY) {
            return (401, json!([{"Message": "Invalid API key"}]).to_string());
        }
        match own {
            Some(body) => (200, body),
            None => (404, "<Error><Code>NoSuchKey</Code></Error>".into()),
        }
    }

    /// Of each station the latest value, or all of a range.
    fn synoptic(&self, is_latest: bool, query: &BTreeMap<&str, &str>) -> String {
        let within = |at: Timestamp| match (query.get("start"), query.get("end")) {
            (Some(start), Some(end)) => {
                let minute = at.strftime("%Y%m%d%H%M").to_string();
                *start <= minute.as_str() && minute.as_str() <= *end
            }
            _ => true,
        };
        let mut stations: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
        for measured in self.measured.iter().filter(|measured| within(measured.at)) {
            stations.entry(&measured.id).or_default().push(measured);
        }
        if stations.is_empty() {
            return summary(2, "No stations found for this request.");
        }
        let list: Vec<Value> = stations
            .into_iter()
            .map(|(id, measured)| {
                let times: Vec<String> = measured.iter().map(|one| one.at.to_string()).collect();
                let values: Vec<Option<f64>> = measured.iter().map(|one| one.value).collect();
                let observations = if is_latest {
                    let last = measured.iter().max_by_key(|one| one.at).expect("each has one");
                    json!({"air_temp_value_1": {"value": last.value, "date_time": last.at.to_string()}})
                } else {
                    json!({"date_time": times, "air_temp_set_1": values})
                };
                json!({"STID": id, "NAME": "TEST", "LATITUDE": "38.5", "LONGITUDE": "-120.25", "ELEVATION": "1000", "STATE": "CA",
                    "MNET_ID": "2", "QC_FLAGGED": false, "OBSERVATIONS": observations})
            })
            .collect();
        json!({"UNITS": {"position": "m", "elevation": "ft", "air_temp": "Celsius"}, "STATION": list,
            "SUMMARY": {"RESPONSE_CODE": 1, "RESPONSE_MESSAGE": "OK", "NUMBER_OF_OBJECTS": 1}})
        .to_string()
    }

    /// Sensors that have measured since the answer that was asked from.
    fn purpleair(&self, query: &BTreeMap<&str, &str>) -> String {
        let since = query.get("modified_since").map_or(0, |since| since.parse().expect("seconds since 1970"));
        let sensors = self.measured.iter().filter(|one| one.at.as_second() > since);
        let asked: Vec<&str> = query["fields"].split(',').collect();
        let value = |one: &Measured, field: &str| match field {
            "last_seen" => one.at.as_second().into(),
            "latitude" => 38.5.into(),
            "longitude" => (-120.25).into(),
            "pm2.5_atm" | "pm2.5_atm_a" | "pm2.5_atm_b" => one.value.into(),
            "temperature" => 86.into(),
            "name" => format!("Sensor {}", one.id).into(),
            _ => Value::Null,
        };
        let row = |one: &Measured| {
            let index: u64 = one.id.parse().expect("a sensor's index");
            let values = asked.iter().map(|field| value(one, field));
            Value::Array(std::iter::once(index.into()).chain(values).collect())
        };
        let fields: Vec<&str> = std::iter::once("sensor_index").chain(asked.iter().copied()).collect();
        json!({"api_version": "V1.0.11-0.0.41", "time_stamp": self.data_at + 60, "data_time_stamp": self.data_at, "max_age": 3600,
            "fields": fields, "data": sensors.map(row).collect::<Vec<_>>()})
        .to_string()
    }
}

fn summary(code: i64, message: &str) -> String {
    json!({"SUMMARY": {"RESPONSE_CODE": code, "RESPONSE_MESSAGE": message, "NUMBER_OF_OBJECTS": 0}}).to_string()
}

/// What each service says under the status 200 when something is wrong.
fn error(url: &str) -> String {
    if url.contains("/v2/stations/") {
        summary(500, "An unexpected problem has occurred.")
    } else if url.contains("/v1/sensors") {
        json!({"api_version": "V1", "error": "InternalError", "description": "An unexpected problem has occurred."})
            .to_string()
    } else {
        json!({"WebServiceError": [{"Message": "An unexpected problem has occurred."}]}).to_string()
    }
}
