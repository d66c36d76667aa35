//! A double of the services that are polled without a key: api.weather.gov, aviationweather.gov, CAL FIRE's list and the files of
//! `roads.rs`, on one address, with faults that can be switched while it runs, and with what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::roads;

/// How it answers from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Silence before the answer.
    Slow,
    /// 429, with `Retry-After` in seconds or without.
    Busy(Option<u32>),
    /// 403 with a page, as a content delivery network refuses a `User-Agent`.
    Forbidden,
    /// 500 with a problem document.
    Broken,
    /// The connection ends before the body does.
    Cut,
    /// The body ends early, and the answer with it.
    Short,
    /// A problem document under the status 200.
    ErrorIn200,
    /// A web page under the status 200.
    PageIn200,
    /// A list without items, for a moment.
    Empty,
    /// The same bytes as before, whatever has happened since, and no word that they are.
    Frozen,
    /// To another host.
    Moved,
    /// A body that does not end.
    Endless,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub began: Instant,
    pub ended: Instant,
    /// Others that were being answered when it came.
    pub beside: usize,
    pub status: u16,
}

#[derive(Default)]
struct State {
    fault: Fault,
    /// Observations, forecasts, incidents and alerts are renewed by it.
    version: u32,
    pages: usize,
    passed: u32,
    frozen: BTreeMap<String, String>,
    /// By path: what is told in place of the usual.
    told: BTreeMap<String, String>,
    /// How often that was changed.
    retold: u32,
    asked: Vec<Asked>,
    under_way: usize,
}

/// Serves until the test's process ends.
pub struct Services {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Services {
    pub fn serve() -> Services {
        let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let state = Arc::new(Mutex::new(State { pages: 1, ..State::default() }));
        let (shared, base) = (state.clone(), url.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (state, base) = (shared.clone(), base.clone());
                std::thread::spawn(move || answer(&connection, &state, &base));
            }
        });
        Services { url, state }
    }

    pub fn fails(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    /// Everything is told anew, with other values.
    pub fn renews(&self) {
        self.state.lock().version += 1;
    }

    /// The first period of every forecast is over, and drops out of its list.
    pub fn passes(&self) {
        self.state.lock().passed += 1;
    }

    /// The active alerts come in so many pages.
    pub fn pages(&self, pages: usize) {
        self.state.lock().pages = pages;
    }

    /// From now on this stands under the path.
    pub fn tells(&self, path: &str, body: impl Into<String>) {
        let mut state = self.state.lock();
        state.retold += 1;
        state.told.insert(path.to_owned(), body.into());
    }

    /// The requests since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().asked)
    }
}

fn answer(connection: &TcpStream, state: &Mutex<State>, base: &str) {
    let Some((path, headers)) = request(connection) else { return };
    let began = Instant::now();
    let (fault, version, pages, passed, beside, retold, told) = {
        let mut state = state.lock();
        state.under_way += 1;
        let told = state.told.get(&path).cloned();
        (state.fault, state.version, state.pages, state.passed, state.under_way - 1, state.retold, told)
    };
    let tag = format!("\"{version}-{passed}-{retold}\"");
    let body = match fault {
        Fault::Empty => Some(match roads::empty(&path) {
            Some(nothing) => nothing.to_owned(),
            None if path.starts_with("/api/data") => "[]".to_owned(),
            None => json!({"type": "FeatureCollection", "features": []}).to_string(),
        }),
        Fault::Frozen => state.lock().frozen.get(&path).cloned(),
        _ => told.or_else(|| content(&path, version, pages, passed, base)),
    };
    if let (Some(body), Fault::None) = (&body, fault) {
        state.lock().frozen.insert(path.clone(), body.clone());
    }
    let html = "<!DOCTYPE html><html><head><title>Access Denied</title></head></html>".to_owned();
    let problem = json!({"type": "urn:noaa:nws:api:UnexpectedProblem", "title": "Unexpected Problem", "status": 500, "detail": "An unexpected problem has occurred."}).to_string();
    let not_modified = headers.get("if-none-match") == Some(&tag) && fault == Fault::None;
    let (status, extra, body): (u16, String, String) = match (fault, body) {
        (Fault::Busy(after), _) => {
            (429, after.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n")), "slow down".into())
        }
        (Fault::Forbidden, _) => (403, String::new(), html),
        (Fault::Broken, _) => (500, String::new(), problem),
        (Fault::ErrorIn200, _) => (200, String::new(), problem),
        (Fault::PageIn200, _) => (200, String::new(), html),
        (Fault::Moved, _) => (302, "location: http://elsewhere.invalid/\r\n".into(), String::new()),
        (_, None) => {
            (404, String::new(), json!({"title": "Not Found", "status": 404, "detail": "Not there"}).to_string())
        }
        _ if not_modified => (304, format!("etag: {tag}\r\n"), String::new()),
        (Fault::Short, Some(body)) => (200, format!("etag: {tag}\r\n"), body[..body.len() / 2].to_owned()),
        (Fault::Frozen | Fault::Empty, Some(body)) => (200, String::new(), body),
        (_, Some(body)) => (200, format!("etag: {tag}\r\n"), body),
    };
    let length = if fault == Fault::Cut { body.len() + 10 } else { body.len() };
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n{extra}\r\n");
    if fault == Fault::Slow {
        std::thread::sleep(Duration::from_secs(12));
    }
    {
        // Before the client has its answer, so that it cannot ask again before this is written down.
        let mut state = state.lock();
        state.under_way -= 1;
        state.asked.push(Asked { path, headers, began, ended: Instant::now(), beside, status });
    }
    let mut out = connection;
    if fault == Fault::Endless {
        let mut sent = out.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"features\": [");
        while sent.is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            sent = out.write_all(b" ");
        }
        return;
    }
    // The client may have hung up.
    let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes()));
}

fn request(connection: &TcpStream) -> Option<(String, BTreeMap<String, String>)> {
    let mut lines = BufReader::new(connection).lines();
    let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    let lines = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    let header = |line: String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some((path, lines.filter_map(header).collect()))
}

/// What stands under an address; `None`: nothing.
fn content(path: &str, version: u32, pages: usize, passed: u32, base: &str) -> Option<String> {
    let value = if let Some(query) = path.strip_prefix("/alerts/active?") {
        let page = query.split_once("cursor=").map_or(0, |(_, page)| page.parse().expect("a page of ours"));
        alerts(page, version, pages, base)
    } else if let Some(station) =
        path.strip_prefix("/stations/").and_then(|rest| rest.strip_suffix("/observations/latest"))
    {
        (station != "KGONE").then(|| observation(station, version))?
    } else if let Some(cell) = path.strip_prefix("/gridpoints/") {
        forecast(cell, version, passed)
    } else if let Some(query) = path.strip_prefix("/api/data/metar?ids=") {
        let stations = query.strip_suffix("&format=json").expect("as JSON").split(',');
        Value::Array(stations.map(|station| metar(station, version)).collect())
    } else if path.starts_with("/umbraco/api/IncidentApi/GeoJsonList?inactive=") {
        incidents(version)
    } else {
        return roads::content(path, version);
    };
    Some(value.to_string())
}

/// Two a page, without shapes, as most are; each version is an update of the first.
fn alerts(page: usize, version: u32, pages: usize, base: &str) -> Value {
    let alert = |n: usize| {
        json!({ "id": format!("{base}/alerts/urn:oid:2.49.0.1.840.0.{page}.{n}"), "type": "Feature", "geometry": null, "properties": {
            "@type": "wx:Alert", "id": format!("urn:oid:2.49.0.1.840.0.{page}.{n}"), "areaDesc": "North Coast",
            "geocode": { "SAME": ["006023"], "UGC": ["CAZ203"] }, "affectedZones": [format!("{base}/zones/fire/CAZ203")],
            "references": [], "sent": format!("2026-08-01T0{n}:00:00-07:00"), "effective": "2026-08-01T00:00:00-07:00",
            "onset": null, "expires": "2026-08-02T00:00:00-07:00", "ends": null, "status": "Actual", "messageType": "Alert",
            "category": "Met", "severity": "Severe", "certainty": "Likely", "urgency": "Expected", "event": "Red Flag Warning",
            "sender": "w-nws.webmaster@noaa.gov", "senderName": "NWS Eureka CA", "headline": format!("Red Flag Warning, {version}"),
            "description": "Dry lightning.", "instruction": null, "response": "Prepare", "parameters": { "AWIPSidentifier": ["RFWEKA"] }
        } })
    };
    let mut list = json!({ "type": "FeatureCollection", "features": [alert(1), alert(2)], "title": "Active alerts", "updated": "2026-08-01T08:00:00+00:00" });
    if page + 1 < pages {
        list["pagination"] = json!({ "next": format!("{base}/alerts/active?status=actual&cursor={}", page + 1) });
    }
    list
}

fn observation(station: &str, version: u32) -> Value {
    json!({ "id": station, "type": "Feature", "geometry": { "type": "Point", "coordinates": [-122.22, 37.72] }, "properties": {
        "@type": "wx:ObservationStation", "elevation": { "unitCode": "wmoUnit:m", "value": 3 },
        "station": format!("https://api.weather.gov/stations/{station}"), "timestamp": format!("2026-08-01T0{version}:53:00+00:00"),
        "rawMessage": "", "textDescription": "Haze", "presentWeather": [], "cloudLayers": [],
        "temperature": { "unitCode": "wmoUnit:degC", "value": 31.1, "qualityControl": "V" },
        "relativeHumidity": { "unitCode": "wmoUnit:percent", "value": 12.5, "qualityControl": "V" },
        "windGust": { "unitCode": "wmoUnit:km_h-1", "value": null, "qualityControl": "Z" }
    } })
}

/// The forecast itself is made every six hours; what is made of it for each request is not.
fn forecast(cell: &str, version: u32, passed: u32) -> Value {
    let square = json!({ "type": "Polygon", "coordinates": [[[-122.0, 40.0], [-121.9, 40.0], [-121.9, 40.1], [-122.0, 40.1], [-122.0, 40.0]]] });
    let mut properties = json!({ "updateTime": format!("2026-08-01T0{version}:28:04+00:00"), "validTimes": "2026-08-01T00:00:00+00:00/P7D",
        "elevation": { "unitCode": "wmoUnit:m", "value": 90.5 } });
    if cell.contains("/forecast") {
        let hours = if cell.ends_with("/hourly") { 1 } else { 12 };
        let period = |n: u32| {
            json!({ "number": n - passed, "name": "", "startTime": format!("2026-08-02T{:02}:00:00+00:00", n * hours % 24),
                "endTime": format!("2026-08-03T{:02}:00:00+00:00", n * hours % 24), "isDaytime": true, "temperature": 90,
                "temperatureUnit": "F", "windSpeed": "5 to 10 mph", "windDirection": "N", "shortForecast": "Sunny" })
        };
        properties["periods"] = (passed + 1..3).map(period).collect();
        properties["units"] = json!("us");
        properties["forecastGenerator"] = json!("HourlyForecastGenerator");
        properties["generatedAt"] = json!("2026-08-01T00:09:00+00:00");
    } else {
        properties["gridId"] = json!("MTR");
        properties["gridX"] = json!(90);
        properties["gridY"] = json!(105);
        let value = json!([{ "validTime": "2026-08-01T02:00:00+00:00/PT3H", "value": 4 }]);
        properties["hainesIndex"] = json!({ "values": value });
        properties["relativeHumidity"] = json!({ "uom": "wmoUnit:percent", "values": value });
    }
    json!({ "type": "Feature", "geometry": square, "properties": properties })
}

fn metar(station: &str, version: u32) -> Value {
    json!({ "icaoId": station, "obsTime": 1_785_545_760 + 3_600 * version, "reportTime": "2026-08-01T00:00:00.000Z", "temp": 31.1, "wdir": 250,
        "rawOb": format!("METAR {station} 01{version:02}56Z 25007KT 5SM HZ SKC 31/01 A2990 RMK AO2"), "lat": 37.72, "lon": -122.22, "elev": 3,
        "name": "Test Intl, CA, US", "cover": "CLR", "clouds": [{ "cover": "CLR" }], "fltCat": "VFR" })
}

fn incidents(version: u32) -> Value {
    let incident = |n: u32, acres: f64| {
        json!({ "type": "Feature", "geometry": { "type": "Point", "coordinates": [-120.25, 37.5] }, "properties": {
            "Name": format!("Test {n} Fire "), "Final": false, "Updated": format!("2026-07-31T1{version}:00:00Z"), "Started": "2026-07-10T14:10:00Z",
            "AdminUnit": "CAL FIRE Test Unit", "County": "Mariposa", "Location": "near Test", "AcresBurned": acres, "PercentContained": 5.0,
            "AgencyNames": "", "Longitude": -120.25, "Latitude": 37.5, "Type": "Wildfire", "UniqueId": format!("fec1972c-dcdf-4a1c-a6ae-00000000000{n}"),
            "Url": "https://www.fire.ca.gov/incidents/", "StartedDateOnly": "2026-07-10", "IsActive": true, "CalFireIncident": true,
            "NotificationDesired": false } })
    };
    json!({ "type": "FeatureCollection", "features": [incident(1, 12.0 + f64::from(version)), incident(2, 900.0)] })
}
