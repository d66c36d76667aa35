//! Services that the functions call over HTTP: NASA FIRMS, and the data plane of AWS IoT.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use parking_lot::Mutex;
use tokio::net::TcpListener;

pub const MAP_KEY: &str = "0123456789abcdef0123456789abcdef";

/// A FIRMS service with one response a product; counts the calls that showed the key.
#[derive(Clone, Default)]
pub struct Firms {
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Firms {
    pub async fn serve() -> (Firms, String) {
        let firms = Firms::default();
        let api =
            Router::new().route("/api/area/csv/{key}/{product}/{area}/{days}", get(area)).with_state(firms.clone());
        (firms, serve(api).await)
    }

    pub fn calls(&self, product: &str) -> usize {
        self.calls.lock().get(product).copied().unwrap_or_default()
    }
}

async fn area(
    State(firms): State<Firms>,
    Path((key, product, _, _)): Path<(String, String, String, String)>,
) -> String {
    if key != MAP_KEY {
        return "Invalid MAP_KEY.".into();
    }
    *firms.calls.lock().entry(product.clone()).or_default() += 1;
    rows(&product)
}

/// Rows of a product: three of VIIRS S-NPP, two of MODIS, one from each of its satellites.
fn rows(product: &str) -> String {
    let hour = jiff::Timestamp::now() - std::time::Duration::from_secs(3600);
    let at = jiff::tz::Offset::UTC.to_datetime(hour);
    let (date, time) = (at.date(), i16::from(at.hour()) * 100 + i16::from(at.minute()));
    match product {
        "MODIS_NRT" => format!(
            "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight\n\
             38.11000,-120.51000,310.1,1.0,1.0,{date},{time},Terra,MODIS,80,6.1NRT,290.0,12.5,D\n\
             38.12000,-120.52000,311.1,1.0,1.0,{date},{time},Aqua,MODIS,81,6.1NRT,291.0,13.5,D\n"
        ),
        _ => format!(
            "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n\
             38.21000,-120.91000,331.2,0.4,0.4,{date},{time},N,VIIRS,n,2.0NRT,290.1,3.4,D\n\
             38.22000,-120.92000,332.2,0.4,0.4,{date},{time},N,VIIRS,n,2.0NRT,290.2,4.4,D\n\
             38.23000,-120.93000,333.2,0.4,0.4,{date},{time},N,VIIRS,h,2.0NRT,290.3,5.4,D\n"
        ),
    }
}

/// One `POST /topics/{topic}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// As it stood in the request line.
    pub raw_path: String,
    pub topic: String,
    pub qos: Option<String>,
    pub payload: Bytes,
    pub authorization: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Refuses for good.
    Forbids,
    /// Never answers.
    Hangs,
}

/// AWS IoT's data plane: takes what is published.
#[derive(Clone)]
pub struct Iot {
    published: Arc<Mutex<Vec<Published>>>,
    mood: Mood,
}

impl Iot {
    pub async fn serve(mood: Mood) -> (Iot, String) {
        let iot = Iot { published: Arc::default(), mood };
        (iot.clone(), serve(Router::new().route("/topics/{topic}", post(publish)).with_state(iot)).await)
    }

    pub fn published(&self) -> Vec<Published> {
        self.published.lock().clone()
    }
}

async fn publish(
    State(iot): State<Iot>,
    uri: Uri,
    Path(topic): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    payload: Bytes,
) -> StatusCode {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    iot.published.lock().push(Published {
        raw_path: uri.path().to_owned(),
        topic,
        qos: query.get("qos").cloned(),
        payload,
        authorization: authorization.to_owned(),
    });
    match iot.mood {
        Mood::Well => StatusCode::OK,
        Mood::Forbids => StatusCode::FORBIDDEN,
        Mood::Hangs => std::future::pending().await,
    }
}

async fn serve(api: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, api).await });
    format!("http://{at}")
}
