//! What answers the demo's polls, in place of the real services: FIRMS with a revision, an error text and a slow reply; CAL FIRE's
//! list with one incident; the state's layer of evacuation zones, one of which gets an order. All of it is made up, and one fire.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use jiff::tz::Offset;
use parking_lot::Mutex;
use serde_json::{Value, json};
use streammanager::time::{Clock, Timestamp, rfc3339};

use crate::exit::Failure;
use crate::host;

/// The key that it takes.
pub(crate) const MAP_KEY: &str = "demo-key";
/// Detections of one response.
const DETECTIONS: usize = 60;
const SLOW_REPLY: Duration = Duration::from_secs(3);

struct Served {
    clock: Clock,
    began: Timestamp,
    calls: Mutex<BTreeMap<String, u32>>,
}

impl Served {
    /// How often this was asked for, with this time.
    fn call(&self, of: &str) -> u32 {
        let mut calls = self.calls.lock();
        let call = calls.entry(of.to_owned()).or_default();
        *call += 1;
        *call
    }

    /// When the zones changed last, as of this poll of them: milliseconds since 1970.
    fn edited(&self, poll: u32) -> i64 {
        self.began.as_millisecond() + if poll < 2 { 0 } else { 1_000 }
    }

    /// The full hour before the last one: what began then is the same at each poll.
    fn hour(&self) -> i64 {
        self.clock.now().as_second().div_euclid(3600) * 3600 - 3600
    }
}

/// The parameters of the template that say where the services answer which it stands for.
const STANDS_FOR: [&str; 3] = ["FirmsBaseUrl", "CalFireBaseUrl", "CalOesBaseUrl"];

/// Answers on a port for each service, as each has a host of its own, which is asked in turns; gives their addresses by parameter.
pub(crate) async fn serve(clock: Clock) -> Result<Vec<(String, String)>, Failure> {
    let served = Arc::new(Served { began: clock.now(), clock, calls: Mutex::default() });
    let app = Router::new()
        .route("/api/area/csv/{key}/{product}/{area}/{days}", get(area))
        .route("/umbraco/api/IncidentApi/GeoJsonList", get(incidents))
        .route("/CA_EVACUATIONS_CalOESHosted_view/FeatureServer/0", get(layer))
        .route("/CA_EVACUATIONS_CalOESHosted_view/FeatureServer/0/query", get(zones))
        .with_state(served);
    let mut addresses = Vec::new();
    for parameter in STANDS_FOR {
        let address = host::serve("demo upstream", app.clone()).await?;
        addresses.push((parameter.to_owned(), format!("http://{address}")));
    }
    Ok(addresses)
}

async fn area(
    State(served): State<Arc<Served>>,
    Path((key, product, _, _)): Path<(String, String, String, String)>,
) -> String {
    if key != MAP_KEY {
        return "Invalid MAP_KEY.".into();
    }
    let call = served.call(&product);
    match (product.as_str(), call) {
        // As the real service does: an error in words, with status 200. It is none of the quota, for which all streams would wait.
        ("VIIRS_NOAA21_NRT", 1) => return "The server is busy, please try again.".into(),
        ("LANDSAT_NRT", 1) => tokio::time::sleep(SLOW_REPLY).await,
        _ => {}
    }
    csv(&product, served.hour(), call)
}

/// One response: the window of the last two hours, growing with every call; the first row's FRP is revised at the second.
fn csv(product: &str, hour: i64, call: u32) -> String {
    let landsat = product == "LANDSAT_NRT";
    let (brightness, other, satellite, confidence) = match product {
        "MODIS_NRT" => ("brightness", "bright_t31", "Terra", "80"),
        "VIIRS_NOAA20_NRT" => ("bright_ti4", "bright_ti5", "N20", "n"),
        "VIIRS_NOAA21_NRT" => ("bright_ti4", "bright_ti5", "N21", "n"),
        _ => ("bright_ti4", "bright_ti5", "N", "n"),
    };
    let mut text = if landsat {
        "latitude,longitude,path,row,scan,track,acq_date,acq_time,satellite,confidence,daynight\n".to_owned()
    } else {
        format!(
            "latitude,longitude,{brightness},scan,track,acq_date,acq_time,satellite,instrument,confidence,version,{other},frp,daynight\n"
        )
    };
    for row in 0..DETECTIONS + call as usize {
        let at = Timestamp::from_second(hour + (row as i64 % 50) * 60).unwrap_or_default();
        let at = Offset::UTC.to_datetime(at);
        let (date, time) = (at.date(), i16::from(at.hour()) * 100 + i16::from(at.minute()));
        let latitude = 38.2 + (row % 10) as f64 * 0.031;
        // The demo's one bad row: no such latitude.
        let latitude = if product == "MODIS_NRT" && row == 7 { 95.0 } else { latitude };
        let longitude = -120.9 - (row / 10) as f64 * 0.043;
        let revised = if row == 0 && call >= 2 { 55.5 } else { 3.4 + row as f64 };
        let _ = if landsat {
            writeln!(text, "{latitude:.5},{longitude:.5},43,33,{row},{row},{date},{time},L8,H,D")
        } else {
            writeln!(
                text,
                "{latitude:.5},{longitude:.5},331.2,0.4,0.4,{date},{time},{satellite},DEMO,{confidence},2.0DEMO,290.1,{revised:.1},D"
            )
        };
    }
    text
}

/// The one fire, which the detections lie around.
async fn incidents(State(served): State<Arc<Served>>) -> Json<Value> {
    let hour = served.hour();
    let started = Timestamp::from_second(hour).map(rfc3339).unwrap_or_default();
    let (longitude, latitude) = (-121.0, 38.34);
    Json(json!({"type": "FeatureCollection", "features": [{
        "type": "Feature", "geometry": {"type": "Point", "coordinates": [longitude, latitude]}, "properties": {
            "UniqueId": format!("{hour:08x}-0000-4000-8000-0000000000de"), "Name": "Demo Canyon Fire", "Type": "Wildfire",
            "County": "Amador", "Location": "Demo Canyon, made up", "AdminUnit": "DEMO", "Started": started, "Updated": started,
            "AcresBurned": 340.0, "PercentContained": 5.0, "IsActive": true, "Final": false, "CalFireIncident": true,
            "Longitude": longitude, "Latitude": latitude,
        },
    }]}))
}

/// A poll asks for the layer first: its second one finds the order.
async fn layer(State(served): State<Arc<Served>>) -> Json<Value> {
    let call = served.call("zones");
    let field =
        |(name, kind): (&str, &str)| json!({"name": name, "type": format!("esriFieldType{kind}"), "domain": null});
    let fields: Vec<Value> = [
        ("OBJECTID", "OID"),
        ("COUNTY", "String"),
        ("ZONE_ID", "String"),
        ("ZONE_NAME", "String"),
        ("STATUS", "String"),
        ("PUBLIC_INFO", "String"),
        ("EditDate", "Date"),
    ]
    .map(field)
    .into();
    Json(json!({
        "id": 0, "name": "Demo zones", "type": "Feature Layer", "objectIdField": "OBJECTID", "maxRecordCount": 2000,
        "supportedQueryFormats": "JSON, geoJSON", "advancedQueryCapabilities": {"supportsPagination": true}, "fields": fields,
        "editingInfo": {"lastEditDate": served.edited(call)},
    }))
}

async fn zones(State(served): State<Arc<Served>>, Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    let poll = served.calls.lock().get("zones").copied().unwrap_or_default();
    let zone = |id: i64, name: &str, west: f64, status: &str, edited: i64| {
        let (east, south, north) = (west + 0.1, 38.30, 38.42);
        let ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
        json!({"type": "Feature", "id": id, "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {
            "OBJECTID": id, "COUNTY": "Amador", "ZONE_ID": format!("DEMO-E{id:03}"), "ZONE_NAME": name, "STATUS": status,
            "PUBLIC_INFO": "Made up", "EditDate": edited,
        }})
    };
    let east = if poll < 2 { "Evacuation Warning" } else { "Evacuation Order" };
    let rows = [
        zone(1, "Demo Canyon East", -120.98, east, served.edited(poll)),
        zone(2, "Demo Canyon West", -121.10, "Evacuation Warning", served.edited(0)),
    ];
    Json(match asked.contains_key("returnCountOnly") {
        true => json!({"count": rows.len()}),
        false => json!({"type": "FeatureCollection", "features": rows}),
    })
}
