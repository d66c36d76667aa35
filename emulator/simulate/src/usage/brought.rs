//! What a load brings: answers of the polled services, readings of sensors, alerts, archives.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::time::{Clock, Timestamp, rfc3339};
use streammanager::upstream::{Request, Response, Unreachable, Upstream};
use streammanager_functions::events::KinesisRecord;
use tokio::time::sleep;

use super::Load;

/// What services take to answer.
const TAKES: Duration = Duration::from_millis(800);
/// A station reports so often, as most do.
const REPORTS: i64 = 20 * 60;

/// FIRMS and api.weather.gov.
pub(super) struct Services {
    pub(super) load: Load,
    pub(super) clock: Clock,
    /// Rows of each product, the newest last.
    pub(super) rows: Mutex<Vec<(String, VecDeque<String>)>>,
    pub(super) made: Mutex<u64>,
}

impl Services {
    fn firms(&self, product: &str) -> String {
        let mut rows = self.rows.lock();
        let place = rows.iter().position(|(known, _)| known == product).unwrap_or_else(|| {
            rows.push((product.to_owned(), VecDeque::new()));
            rows.len() - 1
        });
        let rows = &mut rows[place].1;
        let seen = rfc3339(self.clock.now() - Duration::from_secs(1_200));
        let (date, time) = (&seen[..10], format!("{}{}", &seen[11..13], &seen[14..16]));
        let new = if rows.is_empty() { self.load.firms_rows } else { self.load.firms_new_rows };
        for _ in 0..new {
            let mut made = self.made.lock();
            *made += 1;
            let (latitude, longitude) =
                (33.0 + (*made % 800) as f64 / 100.0, -123.0 + (*made / 800 % 800) as f64 / 100.0);
            rows.push_back(format!(
                "\n{latitude:.5},{longitude:.5},331.2,0.4,0.4,{date},{time},N,VIIRS,n,2.0NRT,290.1,4.2,D"
            ));
        }
        while rows.len() > self.load.firms_rows as usize {
            rows.pop_front();
        }
        let header = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight";
        std::iter::once(header).chain(rows.iter().map(String::as_str)).collect()
    }

    fn observation(&self, station: &str) -> String {
        let now = self.clock.now().as_second();
        let seen = Timestamp::from_second(now - now.rem_euclid(REPORTS)).unwrap_or_default();
        json!({"type": "Feature", "geometry": {"type": "Point", "coordinates": [-122.22, 37.72]}, "properties": {
            "station": format!("https://api.weather.gov/stations/{station}"), "timestamp": rfc3339(seen),
            "textDescription": "Haze", "elevation": {"unitCode": "wmoUnit:m", "value": 3}, "presentWeather": [],
            "cloudLayers": [], "rawMessage": "",
            "temperature": {"unitCode": "wmoUnit:degC", "value": 31.0, "qualityControl": "V"},
            "windSpeed": {"unitCode": "wmoUnit:km_h-1", "value": 22.3, "qualityControl": "V"},
            "relativeHumidity": {"unitCode": "wmoUnit:percent", "value": 18.2, "qualityControl": "V"}}})
        .to_string()
    }
}

#[async_trait]
impl Upstream for Services {
    async fn call(&self, request: &Request, _: Duration) -> Result<Response, Unreachable> {
        sleep(TAKES).await;
        let path = request.url.reveal();
        let body = match path.split_once("/stations/") {
            Some((_, rest)) => self.observation(rest.split('/').next().unwrap_or_default()),
            // `/api/area/csv/KEY/PRODUCT/…`
            None => self.firms(path.split("/csv/").nth(1).and_then(|rest| rest.split('/').nth(1)).unwrap_or_default()),
        };
        Ok(Response { status: 200, headers: Vec::new(), body: body.into(), elapsed: TAKES })
    }
}

/// The streams that are polled, as a file of them.
pub(super) fn streams(load: &Load) -> String {
    let products =
        [("viirs_snpp", "VIIRS_SNPP_NRT"), ("viirs_noaa20", "VIIRS_NOAA20_NRT"), ("viirs_noaa21", "VIIRS_NOAA21_NRT")];
    let areas = ["[-124.5, 32.5, -119.0, 42.1]", "[-119.0, 32.5, -114.1, 42.1]"];
    let mut streams = Vec::new();
    for (nth, area) in (0..load.firms_streams as usize).map(|nth| (nth, areas[nth / products.len() % areas.len()])) {
        let (source, product) = products[nth % products.len()];
        streams.push(format!(
            "{{id: firms-{nth}, source_id: firms_{source}, connector: firms, tenant: cal-fire, interval: 60s, config: {{product: {product}, area: {area}}}}}"
        ));
    }
    let stations: Vec<String> = (0..load.stations).map(|nth| format!("K{:03}", nth)).collect();
    if !stations.is_empty() {
        streams.push(format!(
            "{{id: stations, source_id: noaa_observations, connector: nws_observations, tenant: cal-fire, interval: 5m, config: {{stations: [{}]}}}}",
            stations.join(", ")
        ));
    }
    format!("version: 1\nstreams: [{}]\n", streams.join(", "))
}

/// One reading on its way.
pub(super) struct Reading {
    /// As Lambda hands it over.
    pub(super) record: KinesisRecord,
    /// What the sensor publishes.
    pub(super) message_bytes: usize,
    /// What the rule puts into the stream: data and key.
    pub(super) record_bytes: usize,
}

/// One reading as the sensors' rule puts it into the stream.
pub(super) fn reading(shard: u32, number: u64, device: u64, now: Timestamp) -> Reading {
    let payload = json!({
        "timestamp": rfc3339(now), "temperature_c": 20.0 + (number % 200) as f64 / 10.0, "humidity_percent": 31.5, "pm2_5": 12.0,
        "wind_speed_ms": 3.4, "battery_v": 3.7, "latitude": 38.5, "longitude": -120.5,
    })
    .to_string();
    let client = format!("station-{device}");
    let output = json!({
        "payload": BASE64.encode(&payload), "topic": format!("sensors/weather/{client}/state"),
        "principal": "3c1f0e9b7a5d4c2e8f6a1b0d9e8c7b6a5f4e3d2c1b0a99887766554433221100", "client": client,
        "received_at": now.as_millisecond(),
    })
    .to_string();
    let record_bytes = output.len() + client.len();
    let shard = format!("shardId-{shard:012}");
    let record = KinesisRecord::put(&shard, client, number.to_string(), BASE64.encode(&output));
    Reading { record, message_bytes: payload.len(), record_bytes }
}

/// An alert's request.
pub(super) fn alert(key: &str, number: u64, now: Timestamp) -> Value {
    let body = json!({
        "id": format!("A-{number}"), "sender": "eoc@butte.example", "sent": rfc3339(now), "status": "Actual", "msgType": "Alert",
        "event": "Evacuation Immediate",
        "area": { "description": "Canyon", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
    });
    crate::traffic::post(key, &body.to_string())
}
