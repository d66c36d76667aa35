//! What every polled service tells at a time, how it fails, and what a record of it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::faults::arcgis::LayerDouble;
use streammanager::limits::RESPONSE_BYTES;
use streammanager::sources::ConnectorKind;
use streammanager::time::{Clock, Timestamp, rfc3339};
use streammanager::upstream::{Request, Response, Unreachable, Upstream};

/// Monday, at a full hour.
pub(crate) const START: &str = "2026-08-03T00:00:00Z";
/// A new event of each source comes so often.
pub(crate) const NEW: i64 = 2_400;
/// Its content changes so often.
pub(crate) const CHANGES: i64 = 3 * 3_600;
/// Time without faults at the end.
pub(crate) const CALM: i64 = 2 * 3_600;
/// Longer than a fault, what a breaker waits then, and a poll.
pub(crate) const LONG_ENOUGH: i64 = 2 * 3_600;

/// An event of a source, and its content at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Told {
    pub(crate) number: i64,
    pub(crate) version: i64,
}

/// An event in its source's list.
pub(crate) struct Event {
    told: Told,
    began: i64,
    changed: i64,
}

pub(crate) fn begins(number: i64) -> i64 {
    start() + number * NEW
}

pub(crate) fn ends(number: i64) -> i64 {
    begins(number) + 8 * 3_600 + (number * 7_919 % 6) * 3_600
}

pub(crate) fn start() -> i64 {
    START.parse::<Timestamp>().unwrap().as_second()
}

/// The list at a time.
pub(crate) fn listed(at: i64) -> Vec<Event> {
    let newest = (at - start()).div_euclid(NEW);
    let event = |number: i64| {
        let began = begins(number);
        let version = (at - began) / CHANGES;
        Event { told: Told { number, version }, began, changed: began + version * CHANGES }
    };
    (0.max(newest - 40)..=newest).filter(|number| ends(*number) > at).map(event).collect()
}

/// Everything that stood in the list for long enough, and that long before `until`.
pub(crate) fn wanted(until: i64) -> BTreeSet<Told> {
    let (mut wanted, until) = (BTreeSet::new(), until - LONG_ENOUGH);
    for number in 0..=(until - start()).div_euclid(NEW) {
        let (began, over) = (begins(number), ends(number).min(until));
        for version in 0..=(over - began - 1) / CHANGES {
            let (from, to) = (began + version * CHANGES, (began + (version + 1) * CHANGES).min(over));
            if to - from >= LONG_ENOUGH {
                wanted.insert(Told { number, version });
            }
        }
    }
    wanted
}

/// A report of every change, by a station that reports its last one alone.
pub(crate) fn reports(until: i64) -> BTreeSet<Told> {
    let (newest, _) = latest(until - LONG_ENOUGH);
    (0..newest).map(|version| Told { number: 0, version }).collect()
}

/// A file of every hour.
pub(crate) fn hours(until: i64) -> BTreeSet<Told> {
    (0..(until - LONG_ENOUGH - start()) / 3_600 - 1).map(|version| Told { number: 0, version }).collect()
}

/// One polled source: its stream, what its service answers, and what a record of it tells.
pub(crate) struct Source {
    pub(crate) connector: ConnectorKind,
    pub(crate) id: &'static str,
    pub(crate) interval: i64,
    pub(crate) config: &'static str,
    /// What its addresses contain.
    pub(crate) address: &'static str,
    pub(crate) answer: Answering,
    /// What must have been published of it by then.
    pub(crate) wanted: fn(i64) -> BTreeSet<Told>,
    pub(crate) told: fn(&Value) -> Option<Told>,
}

pub(crate) enum Answering {
    Body(fn(&str, i64) -> String),
    /// Rows of a layer: attributes and where.
    Layer(fn(&Event) -> Value),
}

pub(crate) fn ms(seconds: i64) -> i64 {
    seconds * 1000
}

pub(crate) fn time(seconds: i64) -> String {
    rfc3339(Timestamp::from_second(seconds).unwrap())
}

pub(crate) fn guid(number: i64) -> String {
    format!("{{{number:08X}-0000-4000-8000-0000000000BB}}")
}

pub(crate) fn of_guid(id: &Value) -> Option<i64> {
    i64::from_str_radix(id.as_str()?.get(1..9)?, 16).ok()
}

pub(crate) fn collection(features: Vec<Value>) -> String {
    json!({"type": "FeatureCollection", "features": features}).to_string()
}

pub(crate) fn firms(_: &str, at: i64) -> String {
    let mut text = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight".to_owned();
    for Event { told, began, .. } in listed(at) {
        let (seen, longitude) = (time(began), -123.0 + told.number as f64 / 1000.0);
        let (date, clock) = (&seen[..10], format!("{}{}", &seen[11..13], &seen[14..16]));
        text +=
            &format!("\n38.5,{longitude:.3},331.2,0.4,0.4,{date},{clock},N,VIIRS,n,2.0NRT,290.1,{}.5,D", told.version);
    }
    text
}

/// Two to a page.
pub(crate) fn alerts(path: &str, at: i64) -> String {
    let page: usize = path.split_once("cursor=").map_or(0, |(_, page)| page.parse().unwrap());
    let events = listed(at);
    let alert = |Event { told, began, changed }: &Event| {
        json!({"type": "Feature", "geometry": null, "properties": {
            "id": format!("urn:oid:2.49.0.1.840.0.{}", told.number), "areaDesc": "North Coast", "geocode": {"SAME": ["006023"], "UGC": ["CAZ203"]},
            "affectedZones": [], "references": [], "sent": time(*began), "effective": time(*changed), "expires": time(began + 30 * 3_600),
            "status": "Actual", "messageType": "Alert", "category": "Met", "severity": "Severe", "certainty": "Likely", "urgency": "Expected",
            "event": "Red Flag Warning", "sender": "w-nws.webmaster@noaa.gov", "headline": format!("version {}", told.version),
            "description": "Dry lightning.", "response": "Prepare", "parameters": {}}})
    };
    let mut list: Value =
        serde_json::from_str(&collection(events.iter().skip(page * 2).take(2).map(alert).collect())).unwrap();
    if events.len() > (page + 1) * 2 {
        list["pagination"] = json!({"next": format!("https://api.weather.gov/alerts/active?cursor={}", page + 1)});
    }
    list.to_string()
}

/// A station reports the change that was the last one.
pub(crate) fn latest(at: i64) -> (i64, i64) {
    let hour = (at - start()).div_euclid(CHANGES);
    (hour, start() + hour * CHANGES)
}

pub(crate) fn observation(path: &str, at: i64) -> String {
    let station = path.split('/').nth(2).unwrap();
    let (hour, seen) = latest(at);
    json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": [-122.22, 37.72]}, "properties": {
        "station": format!("https://api.weather.gov/stations/{station}"), "timestamp": time(seen), "textDescription": "Haze",
        "elevation": {"unitCode": "wmoUnit:m", "value": 3}, "presentWeather": [], "cloudLayers": [],
        "temperature": {"unitCode": "wmoUnit:degC", "value": hour, "qualityControl": "V"}}})
    .to_string()
}

pub(crate) fn metar(path: &str, at: i64) -> String {
    let (hour, seen) = latest(at);
    let stations = path.split_once("ids=").unwrap().1.split('&').next().unwrap().split(',');
    let report = |station: &str| {
        let (stamp, wind) = (time(seen), hour % 90 + 1);
        let raw = format!(
            "METAR {station} {}{}{}Z 250{wind:02}KT 5SM HZ SKC 31/01 A2990",
            &stamp[8..10],
            &stamp[11..13],
            &stamp[14..16]
        );
        json!({"icaoId": station, "obsTime": seen, "rawOb": raw, "lat": 37.72, "lon": -122.22, "elev": 3, "name": "Test Intl, CA, US"})
    };
    Value::Array(stations.map(report).collect()).to_string()
}

pub(crate) fn forecast(_: &str, at: i64) -> String {
    let square = json!({"type": "Polygon", "coordinates": [[[-122.0, 40.0], [-121.9, 40.0], [-121.9, 40.1], [-122.0, 40.1], [-122.0, 40.0]]]});
    let events = listed(at);
    let made = events.iter().map(|event| event.changed).max().unwrap_or(at);
    let period = |event: &Event| {
        let begins = event.began + 48 * 3_600;
        json!({"name": "", "startTime": time(begins), "endTime": time(begins + NEW), "isDaytime": true, "temperature": 50 + event.told.version,
            "temperatureUnit": "F", "windSpeed": "5 mph", "windDirection": "N", "shortForecast": "Sunny"})
    };
    json!({"type": "Feature", "geometry": square, "properties": {"updateTime": time(made), "validTimes": format!("{}/P7D", time(made)),
        "elevation": {"unitCode": "wmoUnit:m", "value": 90.5}, "units": "us", "forecastGenerator": "BaselineForecastGenerator",
        "generatedAt": time(made), "periods": events.iter().map(period).collect::<Vec<_>>()}})
    .to_string()
}

pub(crate) fn synoptic(_: &str, at: i64) -> String {
    let (hour, seen) = latest(at);
    json!({"UNITS": {"position": "m", "elevation": "ft", "air_temp": "Celsius"},
        "STATION": [{"STID": "TESTR", "NAME": "TEST", "LATITUDE": "38.5", "LONGITUDE": "-120.25", "ELEVATION": "1000", "STATE": "CA", "MNET_ID": "2",
            "QC_FLAGGED": false, "OBSERVATIONS": {"air_temp_value_1": {"value": hour, "date_time": time(seen)}}}],
        "SUMMARY": {"RESPONSE_CODE": 1, "RESPONSE_MESSAGE": "OK", "NUMBER_OF_OBJECTS": 1}})
    .to_string()
}

pub(crate) fn purpleair(path: &str, at: i64) -> String {
    let (hour, seen) = latest(at);
    let query: BTreeMap<&str, &str> =
        path.split_once('?').unwrap().1.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let asked: Vec<&str> = query["fields"].split(',').collect();
    let value = |field: &&str| match *field {
        "last_seen" => seen.into(),
        "latitude" => 38.5.into(),
        "longitude" => (-120.25).into(),
        "temperature" => (32 + hour).into(),
        _ => Value::Null,
    };
    let since = query.get("modified_since").map_or(0, |since| since.parse().unwrap());
    let row: Vec<Value> = std::iter::once(json!(7)).chain(asked.iter().map(value)).collect();
    let fields: Vec<&str> = std::iter::once("sensor_index").chain(asked.iter().copied()).collect();
    json!({"api_version": "V1.0.11-0.0.41", "time_stamp": at, "data_time_stamp": at - 1, "max_age": 3600, "fields": fields,
        "data": if seen > since { vec![row] } else { Vec::new() }})
    .to_string()
}

pub(crate) fn airnow(_: &str, at: i64) -> String {
    let (hour, seen) = latest(at);
    json!([{"Latitude": 38.5, "Longitude": -121.5, "UTC": &time(seen)[..16], "Parameter": "PM2.5", "Unit": "UG/M3", "Value": hour as f64,
        "AQI": 10, "Category": 1, "SiteName": "Test", "AgencyName": "Test", "FullAQSCode": "060999998", "IntlAQSCode": "840060999998"}])
    .to_string()
}

/// A file of an hour that is over.
pub(crate) fn airnow_file(path: &str, _: i64) -> String {
    let stamp = path.rsplit('_').next().unwrap();
    let hour: Timestamp =
        format!("{}-{}-{}T{}:00:00Z", &stamp[..4], &stamp[4..6], &stamp[6..8], &stamp[8..10]).parse().unwrap();
    let number = (hour.as_second() - start()) / 3_600;
    format!(
        "{}/{}/{}|{}:00|060999999|Test|-8|PM2.5|UG/M3|{}.0|Test Agency\n",
        &stamp[4..6],
        &stamp[6..8],
        &stamp[2..4],
        &stamp[8..10],
        number + 10
    )
}

pub(crate) fn calfire(_: &str, at: i64) -> String {
    let incident = |Event { told, began, changed }: &Event| {
        json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": [-120.25, 37.5]}, "properties": {
            "Name": format!("Test {} Fire", told.number), "Final": false, "Updated": time(*changed), "Started": time(*began), "County": "Mariposa",
            "Location": "near Test", "AcresBurned": told.version as f64 + 0.5, "PercentContained": 5.0, "Longitude": -120.25, "Latitude": 37.5,
            "Type": "Wildfire", "UniqueId": guid(told.number).trim_matches(['{', '}']).to_lowercase(), "IsActive": true, "CalFireIncident": true}})
    };
    collection(listed(at).iter().map(incident).collect())
}

/// What a feed of CAP alerts has: each is an alert of its own.
pub(crate) fn cap(events: &[Event]) -> String {
    let alert = |Event { told, changed, .. }: &Event| {
        format!(
            "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>{}.{}</identifier><sender>oes@test.example</sender>\
             <sent>{}+00:00</sent><status>Actual</status><msgType>Alert</msgType><scope>Public</scope><info><language>en-US</language>\
             <category>Fire</category><event>Fire Warning</event><urgency>Immediate</urgency><severity>Extreme</severity>\
             <certainty>Observed</certainty><area><areaDesc>Testland</areaDesc></area></info></alert>",
            told.number,
            told.version,
            &time(*changed)[..19]
        )
    };
    events.iter().map(alert).collect()
}

/// IPAWS has what was sent since the time that is asked for.
pub(crate) fn ipaws(path: &str, at: i64) -> String {
    let since: Timestamp = path.rsplit('/').next().unwrap().parse().unwrap();
    let events: Vec<Event> = listed(at).into_iter().filter(|event| event.changed >= since.as_second()).collect();
    format!("<ns1:alerts xmlns:ns1=\"http://gov.fema.ipaws.services/feed\">{}</ns1:alerts>", cap(&events))
}

/// An index whose entries carry nothing: each names its document.
pub(crate) fn cap_feed(path: &str, at: i64) -> String {
    let events = listed(at);
    if let Some(number) = path.strip_prefix("/doc/") {
        let number: i64 = number.parse().unwrap();
        return cap(&events.into_iter().filter(|event| event.told.number == number).collect::<Vec<_>>());
    }
    let entry = |Event { told, changed, .. }: &Event| {
        let (number, changed) = (told.number, time(*changed));
        format!(
            "<entry><id>tag:{number}</id><updated>{changed}</updated><link href=\"/doc/{number}\" type=\"application/cap+xml\"/></entry>"
        )
    };
    let entries: String = events.iter().rev().map(entry).collect();
    format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><id>x</id><title>Alerts</title>{entries}</feed>")
}

pub(crate) fn closures(_: &str, at: i64) -> String {
    let closure = |Event { told, began, .. }: &Event| {
        let none = |code: &str| json!({format!("isCode{code}"): "false", format!("code{code}Timestamp"): {format!("code{code}Epoch"): ""}});
        json!({"lcs": {"index": format!("C1TB-{:04}-2026", told.number), "recordTimestamp": {"recordEpoch": at.to_string()},
            "location": {"travelFlowDirection": "North / South",
                "begin": {"beginDistrict": "1", "beginLatitude": "38.0", "beginLongitude": "-120.0", "beginRoute": "SR-999", "beginCounty": "Testland"},
                "end": {"endLatitude": "38.1", "endLongitude": "-120.0", "endRoute": "SR-999"}},
            "closure": {"closureID": "C1TB", "logNumber": told.number.to_string(), "closureTimestamp": {
                    "closureStartEpoch": began.to_string(), "closureEndEpoch": "", "isClosureEndIndefinite": "true"},
                "facility": "Conventional Hwy", "typeOfClosure": "Full", "typeOfWork": "Emergency", "lanesClosed": "All",
                "totalExistingLanes": (told.version + 1).to_string(), "estimatedDelay": "",
                "code1097": none("1097"), "code1098": none("1098"), "code1022": none("1022")}}})
    };
    json!({"data": listed(at).iter().map(closure).collect::<Vec<_>>()}).to_string()
}

pub(crate) fn chp(_: &str, at: i64) -> String {
    let log = |Event { told, began, .. }: &Event| {
        // Seven hours behind UTC in August.
        let at = Timestamp::from_second(began - 7 * 3_600).unwrap().strftime("%b %e %Y %l:%M%p").to_string();
        let notes = "<details><DetailTime>\"x\"</DetailTime><IncidentDetail>\"x\"</IncidentDetail></details>";
        format!(
            "<Log ID = \"260803TS{:04}\"><LogTime>\"{at}\"</LogTime><LogType>\"FIRE-Report of Fire\"</LogType><Location>\"Sr999\"</Location>\
             <LocationDesc>\"\"</LocationDesc><Area>\"Testland\"</Area><ThomasBrothers>\"\"</ThomasBrothers>\
             <LATLON>\"38000000:120000000\"</LATLON><LogDetails>{}</LogDetails></Log>",
            told.number,
            notes.repeat(told.version as usize)
        )
    };
    let logs: String = listed(at).iter().map(log).collect();
    format!(
        "<?xml version=\"1.0\" ?>\n<State><Center ID = \"TEST\"><Dispatch ID = \"TSTC\">{logs}</Dispatch></Center></State>\n"
    )
}

pub(crate) fn fire(event: &Event) -> Value {
    json!({"IrwinID": guid(event.told.number), "IncidentName": "SAMPLE", "IncidentSize": event.told.version,
        "FireDiscoveryDateTime": ms(event.began), "POOState": "US-CA"})
}

pub(crate) fn zone(event: &Event) -> Value {
    json!({"ZONE_ID": format!("US-CA-XZZ-E{:04}", event.told.number), "COUNTY": "Testland", "STATUS": "Evacuation Order", "PUBLIC_INFO": null,
        "NOTES": format!("version {}", event.told.version), "EditDate": ms(event.changed)})
}

pub(crate) fn perimeter(event: &Event) -> Value {
    json!({"GlobalID": guid(event.told.number), "incident_name": null, "mission": "CA-TST-SAMPLE-N57B", "area_acres": event.told.version,
        "poly_DateCurrent": ms(event.began), "source": "FIRIS", "type": "Heat Perimeter", "displayStatus": "Active", "EditDate": ms(event.changed)})
}

pub(crate) fn outage(event: &Event) -> Value {
    json!({"UtilityCompany": "TEST", "StartDate": ms(event.began), "EstimatedRestoreDate": null, "Cause": null,
        "ImpactedCustomers": event.told.version, "County": "Testland", "OutageStatus": "Active", "OutageType": "Not Planned",
        "IncidentId": format!("T{}", event.told.number), "GlobalID": guid(event.told.number)})
}

pub(crate) fn shelter(event: &Event) -> Value {
    json!({"SHELTER_ID": event.told.number, "SHELTER_NAME": "Test Hall", "BEDS": event.told.version, "EditDate": ms(event.changed)})
}

pub(crate) fn told(number: Option<i64>, version: &Value) -> Option<Told> {
    Some(Told { number: number?, version: version.as_f64()?.floor() as i64 })
}

/// The number behind a text such as `version 3`.
pub(crate) fn behind(text: &Value, prefix: &str) -> Option<i64> {
    text.as_str()?.strip_prefix(prefix)?.parse().ok()
}

/// `37.2` is number 37 in its version 2.
pub(crate) fn of_cap(value: &Value) -> Option<Told> {
    let (number, version) = value["data"]["identifier"].as_str()?.split_once('.')?;
    Some(Told { number: number.parse().ok()?, version: version.parse().ok()? })
}

/// Two incidents of every past year.
pub(crate) fn calfire_year(path: &str, _: i64) -> String {
    let year = path.split_once("year=").unwrap().1;
    let incident = |n: u32| {
        json!({"type": "Feature", "geometry": null, "properties": {"UniqueId": format!("{year}-{n}"), "Name": "SAMPLE FIRE", "County": "Testland",
            "Type": "Wildfire", "Started": format!("{year}-08-10T14:10:00Z"), "Updated": format!("{year}-09-10T14:10:00Z"), "AcresBurned": n}})
    };
    collection(vec![incident(1), incident(2)])
}

/// A fire on every day.
pub(crate) fn firms_days(path: &str, _: i64) -> String {
    if path.contains("data_availability") {
        return "data_id,min_date,max_date\nVIIRS_SNPP_SP,2012-01-20,2026-05-31\n".into();
    }
    let mut text = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight,type".to_owned();
    let (rest, first) = path.rsplit_once('/').unwrap();
    let days: i64 = rest.rsplit('/').next().unwrap().parse().unwrap();
    let first = format!("{first}T00:00:00Z").parse::<Timestamp>().unwrap().as_second();
    for day in 0..days {
        text += &format!(
            "\n38.5,-120.25,331.2,0.4,0.4,{},1200,N,VIIRS,n,2,290.1,5.5,D,0",
            &time(first + day * 86_400)[..10]
        );
    }
    text
}

pub(crate) fn table(_: &str, _: i64) -> String {
    "FOD_ID,FIRE_NAME,DISCOVERY_DATE,FIRE_SIZE,LATITUDE,LONGITUDE,STATE,COUNTY\n1,SAMPLE,2451334.5,12.5,39.5,-121.5,CA,Testland\n".into()
}

/// A reading at the beginning of each window.
pub(crate) fn purpleair_history(path: &str, _: i64) -> String {
    let (sensor, query) = path.trim_start_matches("/v1/sensors/").split_once("/history?start_timestamp=").unwrap();
    let from: i64 = query.split('&').next().unwrap().parse().unwrap();
    json!({"api_version": "V1", "sensor_index": sensor.parse::<u64>().unwrap(), "fields": ["time_stamp", "temperature"], "data": [[from, 86]]}).to_string()
}

/// Days from this one's noon on.
fn noons(first: &str, days: i64) -> BTreeSet<Told> {
    let first = first.parse::<Timestamp>().unwrap().as_second();
    (0..days).map(|day| Told { number: first + day * 86_400, version: 0 }).collect()
}

/// The beginning of each window of both sensors.
fn windows(_: i64) -> BTreeSet<Told> {
    let first = "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second();
    [7, 8]
        .into_iter()
        .flat_map(|number| (0..3).map(move |window| Told { number, version: first + window * 30 * 86_400 }))
        .collect()
}

fn seconds(value: &Value) -> Option<i64> {
    Some(value.as_str()?.parse::<Timestamp>().ok()?.as_second())
}

pub(crate) fn sources() -> Vec<Source> {
    let stations =
        |value: &Value| Some(Told { number: 0, version: value["data"]["temperature_c"].as_f64()?.floor() as i64 });
    vec![
        Source {
            connector: ConnectorKind::FirmsArchive,
            id: "historical_firms",
            interval: 300,
            config: "{product: VIIRS_SNPP_SP, area: [-124.5, 32.5, -114.1, 42.1], start: 2026-04-01, end: 2026-04-12}",
            address: "VIIRS_SNPP_SP",
            answer: Answering::Body(firms_days),
            wanted: |_| noons("2026-04-01T12:00:00Z", 12),
            told: |value| Some(Told { number: seconds(&value["observed_at"])?, version: 0 }),
        },
        Source {
            connector: ConnectorKind::CalfireHistory,
            id: "historical_calfire",
            interval: 300,
            config: "{first_year: 2013, last_year: 2020}",
            address: "inactive=true",
            answer: Answering::Body(calfire_year),
            wanted: |_| (2013..=2020).flat_map(|number| [1, 2].map(|version| Told { number, version })).collect(),
            told: |value| {
                let (year, number) = value["data"]["incident_id"].as_str()?.split_once('-')?;
                Some(Told { number: year.parse().ok()?, version: number.parse().ok()? })
            },
        },
        Source {
            connector: ConnectorKind::FpaFod,
            id: "historical_fpa_fod",
            interval: 300,
            config: "{url: 'https://files.test/fires.csv'}",
            address: "files.test",
            answer: Answering::Body(table),
            wanted: |_| [Told { number: 1, version: 0 }].into(),
            told: |value| Some(Told { number: value["data"]["fire_id"].as_str()?.parse().ok()?, version: 0 }),
        },
        Source {
            connector: ConnectorKind::PurpleairHistory,
            id: "historical_purpleair_60",
            interval: 300,
            config: "{sensors: [7, 8], start: '2026-03-01T00:00:00Z', end: '2026-05-15T00:00:00Z', average: 60, fields: [temperature], points_a_day: 5000}",
            address: "/history?",
            answer: Answering::Body(purpleair_history),
            wanted: windows,
            told: |value| {
                let number = value["data"]["sensor_id"].as_str()?.parse().ok()?;
                Some(Told { number, version: seconds(&value["data"]["measured_at"])? })
            },
        },
        Source {
            connector: ConnectorKind::Firms,
            id: "firms_viirs_snpp",
            interval: 60,
            config: "{product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}",
            address: "firms.modaps",
            answer: Answering::Body(firms),
            wanted,
            told: |value| {
                let number = ((value["longitude"].as_f64()? + 123.0) * 1000.0).round() as i64;
                told(Some(number), &value["data"]["frp"])
            },
        },
        Source {
            connector: ConnectorKind::NwsAlerts,
            id: "noaa_alerts",
            interval: 120,
            config: "{areas: [CA]}",
            address: "/alerts/active",
            answer: Answering::Body(alerts),
            wanted,
            told: |value| {
                let number = value["data"]["identifier"].as_str()?.rsplit('.').next()?.parse().ok()?;
                Some(Told { number, version: behind(&value["data"]["info"][0]["headline"], "version ")? })
            },
        },
        Source {
            connector: ConnectorKind::NwsObservations,
            id: "noaa_observations",
            interval: 600,
            config: "{stations: [KAAA, KBBB, KCCC]}",
            address: "/observations/latest",
            answer: Answering::Body(observation),
            wanted: reports,
            told: stations,
        },
        Source {
            connector: ConnectorKind::Metar,
            id: "noaa_observations",
            interval: 300,
            config: "{stations: [KDDD, KEEE]}",
            address: "/api/data/metar",
            answer: Answering::Body(metar),
            wanted: reports,
            told: stations,
        },
        Source {
            connector: ConnectorKind::NwsForecast,
            id: "noaa_forecast",
            interval: 900,
            config: "{cells: [\"MTR/90,105\"], documents: [forecast]}",
            address: "/gridpoints/",
            answer: Answering::Body(forecast),
            wanted,
            told: |value| {
                let begins: Timestamp = value["data"]["start"].as_str()?.parse().ok()?;
                let fahrenheit = value["data"]["temperature_c"].as_f64()? * 1.8 + 32.0;
                let number = (begins.as_second() - 48 * 3_600 - start()) / NEW;
                Some(Told { number, version: fahrenheit.round() as i64 - 50 })
            },
        },
        Source {
            connector: ConnectorKind::Synoptic,
            id: "synoptic_observations",
            interval: 300,
            config: "{networks: [2], area: [-124.5, 32.5, -114.1, 42.1]}",
            address: "/v2/stations/",
            answer: Answering::Body(synoptic),
            wanted: reports,
            told: stations,
        },
        Source {
            connector: ConnectorKind::Purpleair,
            id: "iot_purpleair",
            interval: 120,
            config: "{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: 1000000}",
            address: "/v1/sensors",
            answer: Answering::Body(purpleair),
            wanted: reports,
            told: |value| {
                let fahrenheit = value["data"]["temperature_c"].as_f64()? * 1.8 + 32.0;
                Some(Told { number: 0, version: fahrenheit.round() as i64 - 32 })
            },
        },
        Source {
            connector: ConnectorKind::Airnow,
            id: "airnow_observations",
            interval: 900,
            config: "{area: [-124.5, 32.5, -114.1, 42.1], parameters: [PM25]}",
            address: "/aq/data/",
            answer: Answering::Body(airnow),
            wanted: |_| BTreeSet::new(),
            told: |value| match value["data"]["site_id"].as_str()? {
                "060999998" => Some(Told { number: 1, version: value["data"]["value"].as_f64()? as i64 }),
                _ => Some(Told { number: 0, version: value["data"]["value"].as_f64()? as i64 - 10 }),
            },
        },
        Source {
            connector: ConnectorKind::AirnowFiles,
            id: "airnow_observations",
            interval: 900,
            config: "{file: by_parameter, states: ['06'], hours: 3}",
            address: "files.airnowtech.org",
            answer: Answering::Body(airnow_file),
            wanted: hours,
            told: |_| None,
        },
        Source {
            connector: ConnectorKind::Ipaws,
            id: "ipaws_alerts",
            interval: 120,
            config: "{feed: public}",
            address: "apps.fema.gov",
            answer: Answering::Body(ipaws),
            wanted,
            told: of_cap,
        },
        Source {
            connector: ConnectorKind::CapFeed,
            id: "cap_alerts_county",
            interval: 60,
            config: "{url: 'https://county.test/alerts.atom'}",
            address: "county.test",
            answer: Answering::Body(cap_feed),
            wanted,
            told: of_cap,
        },
        Source {
            connector: ConnectorKind::Caltrans,
            id: "caltrans_closures",
            interval: 300,
            config: "{districts: [1]}",
            address: "cwwp2.dot.ca.gov",
            answer: Answering::Body(closures),
            wanted,
            told: |value| {
                let number = value["data"]["index"].as_str()?.split('-').nth(1)?.parse().ok()?;
                Some(Told { number, version: value["data"]["lanes_existing"].as_i64()? - 1 })
            },
        },
        Source {
            connector: ConnectorKind::Chp,
            id: "chp_incidents",
            interval: 120,
            config: "{}",
            address: "media.chp.ca.gov",
            answer: Answering::Body(chp),
            wanted,
            told: |value| told(behind(&value["data"]["incident_id"], "260803TS"), &value["data"]["notes"]),
        },
        Source {
            connector: ConnectorKind::Calfire,
            id: "calfire_incidents",
            interval: 300,
            config: "{}",
            address: "incidents.fire.ca.gov",
            answer: Answering::Body(calfire),
            wanted,
            told: |value| {
                let name = value["data"]["name"].as_str()?;
                told(name.split(' ').nth(1)?.parse().ok(), &value["data"]["acres_burned"])
            },
        },
        Source {
            connector: ConnectorKind::WfigsHistory,
            id: "historical_wfigs_perimeters",
            interval: 300,
            config: "{layer: perimeters}",
            address: "WFIGS_Interagency_Perimeters/",
            answer: Answering::Layer(fire),
            wanted: |_| BTreeSet::new(),
            told: |value| told(of_guid(&value["data"]["id"]), &value["data"]["incident_acres"]),
        },
        Source {
            connector: ConnectorKind::Wfigs,
            id: "wfigs_incidents",
            interval: 300,
            config: "{format: json}",
            address: "WFIGS_",
            answer: Answering::Layer(fire),
            wanted,
            told: |value| told(of_guid(&value["data"]["id"]), &value["data"]["incident_acres"]),
        },
        Source {
            connector: ConnectorKind::Zones,
            id: "evacuation_zones",
            interval: 60,
            config: "{}",
            address: "CA_EVACUATIONS",
            answer: Answering::Layer(zone),
            wanted,
            told: |value| {
                let number = value["data"]["zone_id"].as_str()?.rsplit('E').next()?.parse().ok()?;
                match value["data"]["status"].as_str()? {
                    // Said by us, of one that left the list.
                    "lifted_unconfirmed" => Some(Told { number, version: -1 }),
                    _ => Some(Told { number, version: behind(&value["data"]["public_info"], "version ")? }),
                }
            },
        },
        Source {
            connector: ConnectorKind::Firis,
            id: "firis_perimeters",
            interval: 300,
            config: "{}",
            address: "FIRIS",
            answer: Answering::Layer(perimeter),
            wanted,
            told: |value| told(of_guid(&value["data"]["id"]), &value["data"]["acres"]),
        },
        Source {
            connector: ConnectorKind::Outages,
            id: "power_outages",
            interval: 300,
            config: "{}",
            address: "Power_Outages",
            answer: Answering::Layer(outage),
            wanted,
            told: |value| told(behind(&value["data"]["id"], "T"), &value["data"]["customers"]),
        },
        Source {
            connector: ConnectorKind::Layers,
            id: "layer_shelters",
            interval: 300,
            config: "{url: 'https://gis.test/arcgis/rest/services/Shelters/FeatureServer/0', key: [SHELTER_ID], time: EditDate}",
            address: "gis.test",
            answer: Answering::Layer(shelter),
            wanted,
            told: |value| told(value["data"]["key"][0].as_str()?.parse().ok(), &value["data"]["attributes"]["BEDS"]),
        },
    ]
}

/// How a service answers while it is sick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Slow,
    Busy,
    BusyFor120,
    Forbidden,
    Broken,
    Cut,
    ErrorIn200,
    Empty,
    Frozen,
    Moved,
    Endless,
}

pub(crate) const FAULTS: [Fault; 11] = [
    Fault::Slow,
    Fault::Busy,
    Fault::BusyFor120,
    Fault::Forbidden,
    Fault::Broken,
    Fault::Cut,
    Fault::ErrorIn200,
    Fault::Empty,
    Fault::Frozen,
    Fault::Moved,
    Fault::Endless,
];

/// Which source has which fault when: the fault, and when it began.
pub(crate) type Weather = Box<dyn Fn(usize, i64) -> Option<(Fault, i64)> + Send + Sync>;

/// A fault of 5 to 25 minutes in every third hour of each source, until the calm.
pub(crate) fn seeded(seed: i64, until: i64) -> Weather {
    Box::new(move |source, at| {
        let hour = (at - start()).div_euclid(3_600);
        let dice = (hour * 31 + source as i64 * 101 + seed * 7).wrapping_mul(2_654_435_761).rem_euclid(1 << 31) >> 8;
        let began = start() + hour * 3_600 + dice % 1_800;
        let length = 300 + dice / 7 % 1_200;
        let fault = FAULTS[(dice / 3) as usize % FAULTS.len()];
        let strikes = dice % 3 == 0 && (began..began + length).contains(&at) && at < until - CALM;
        strikes.then_some((fault, began))
    })
}

/// All services.
pub(crate) struct Sky {
    pub(crate) clock: Clock,
    pub(crate) sources: Vec<Source>,
    pub(crate) layers: Vec<LayerDouble>,
    pub(crate) weather: Weather,
    pub(crate) asked: Mutex<Vec<(String, Timestamp, Timestamp)>>,
    pub(crate) met: Mutex<BTreeSet<Fault>>,
}

impl Sky {
    pub(crate) fn new(weather: Weather) -> Sky {
        let text = |name| (name, "esriFieldTypeString", Vec::new());
        let fields =
            ["ZONE_ID", "COUNTY", "STATUS", "PUBLIC_INFO", "NOTES", "EditDate", "SHELTER_ID", "SHELTER_NAME", "BEDS"];
        let sources = sources();
        let layers = sources.iter().map(|_| LayerDouble::new(fields.map(text).to_vec())).collect();
        let clock = Clock::simulated(START.parse().unwrap());
        Sky { clock, sources, layers, weather, asked: Mutex::default(), met: Mutex::default() }
    }

    fn answer(&self, at: usize, path: &str, now: i64, fault: Option<(Fault, i64)>) -> Response {
        let source = &self.sources[at];
        let as_of = match fault {
            Some((Fault::Frozen, since)) => since,
            _ => now,
        };
        let response = |status, headers: &[(&str, &str)], body: String| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Response { status, headers, body: body.into(), elapsed: Duration::ZERO }
        };
        let page = "<!DOCTYPE html><html><title>Access Denied</title></html>".to_owned();
        match fault.map(|(fault, _)| fault) {
            Some(Fault::Busy) => return response(429, &[], "slow down".into()),
            Some(Fault::BusyFor120) => return response(429, &[("retry-after", "120")], "slow down".into()),
            Some(Fault::Forbidden) => return response(403, &[], page),
            Some(Fault::Broken) => return response(500, &[], page),
            Some(Fault::Moved) => return response(302, &[("location", "https://elsewhere.invalid/")], String::new()),
            Some(Fault::ErrorIn200) => {
                return response(
                    200,
                    &[],
                    json!({"error": {"code": 500, "message": "Unexpected Problem"}}).to_string(),
                );
            }
            _ => {}
        }
        let is_empty = matches!(fault, Some((Fault::Empty, _)));
        let mut body = match &source.answer {
            Answering::Body(_) if is_empty && path.starts_with("/api/data") => "[]".into(),
            Answering::Body(_) if is_empty => collection(Vec::new()),
            Answering::Body(body) => body(path, as_of),
            Answering::Layer(row) => {
                let events = if is_empty { Vec::new() } else { listed(as_of) };
                self.layers[at].set(|layer| {
                    layer.rows.clear();
                    layer.largest_page = 7;
                    layer.edited = Some(ms(listed(as_of).iter().map(|event| event.changed).max().unwrap_or(start())));
                });
                for event in &events {
                    self.layers[at].put(event.told.number + 1, row(event), json!({"x": -121.0, "y": 38.5}));
                }
                String::from_utf8(self.layers[at].answer(path).1.body.to_vec()).unwrap()
            }
        };
        if matches!(fault, Some((Fault::Cut, _))) {
            body.truncate(body.len() / 2);
        }
        response(200, &[], body)
    }
}

#[async_trait]
impl Upstream for Sky {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        let (url, began) = (request.url.reveal(), self.clock.now());
        let at = self.sources.iter().position(|source| url.contains(source.address)).expect("one of ours is asked");
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let path = format!("/{path}");
        let fault = (self.weather)(at, began.as_second());
        self.met.lock().extend(fault.map(|(fault, _)| fault));
        let answered = match fault {
            Some((Fault::Slow, _)) => {
                tokio::time::sleep(within).await;
                Err(Unreachable::TimedOut(within))
            }
            Some((Fault::Endless, _)) => {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Err(Unreachable::TooLarge(RESPONSE_BYTES))
            }
            _ => {
                let response = self.answer(at, &path, began.as_second(), fault);
                tokio::time::sleep(Duration::from_millis(200 + 37 * at as u64)).await;
                Ok(response)
            }
        };
        const SERVICES: &str = "/rest/services";
        let host = url.find(SERVICES).map_or(format!("{scheme}://{host}"), |at| url[..at + SERVICES.len()].to_owned());
        self.asked.lock().push((host, began, self.clock.now()));
        answered
    }
}
