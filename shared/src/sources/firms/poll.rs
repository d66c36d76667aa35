//! NASA FIRMS area CSV [S1, S11]: one product over one box, re-read each poll because its window keeps growing. Whether a
//! response is data is judged by its header line, never by its status alone.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows;
use crate::connect::politeness::{Validators, retry_after};
use crate::connect::{Connector, Cursor, Fetched, Single, SourceError, Walk, one};
use crate::decode::{Context, Rows, form};
use crate::error::{Reason, Reject};
use crate::record::SourceId;
use crate::sources::{WrongField, WrongFields, check_area};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

/// Days of one request; the service answers "Expects [1..5]" beyond.
const DAYS_MAX: u8 = 5;
/// The quota's own interval: "Exceeding allowed transaction limit" ends after it.
const QUOTA_WAIT: std::time::Duration = std::time::Duration::from_secs(600);

/// A product as the service names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(non_camel_case_types, missing_docs)] // the service's own names
pub enum Product {
    VIIRS_SNPP_NRT,
    VIIRS_NOAA20_NRT,
    VIIRS_NOAA21_NRT,
    /// Terra and Aqua in one response; each row's satellite decides its source id.
    MODIS_NRT,
    LANDSAT_NRT,
}

impl Product {
    fn name(self) -> &'static str {
        match self {
            Product::VIIRS_SNPP_NRT => "VIIRS_SNPP_NRT",
            Product::VIIRS_NOAA20_NRT => "VIIRS_NOAA20_NRT",
            Product::VIIRS_NOAA21_NRT => "VIIRS_NOAA21_NRT",
            Product::MODIS_NRT => "MODIS_NRT",
            Product::LANDSAT_NRT => "LANDSAT_NRT",
        }
    }
}

/// A FIRMS stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FirmsConfig")]
pub struct Config {
    /// Which instrument and satellite.
    pub product: Product,
    /// West, south, east, north in degrees.
    pub area: [f64; 4],
    /// Days back from today, today counted, 1 to 5.
    #[serde(default = "one_day")]
    pub days: u8,
}

fn one_day() -> u8 {
    1
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let days = if (1..=DAYS_MAX).contains(&self.days) {
            Ok(())
        } else {
            Err(WrongField::new("days", format!("{} is not in 1..{DAYS_MAX}", self.days)))
        };
        WrongFields::all([check_area(&self.area), days])
    }
}

/// One stream's connector, with the service's address and key.
pub struct Firms {
    /// The stream's source id, unless a row's satellite decides otherwise [S1].
    pub source: SourceId,
    /// What is asked for.
    pub config: Config,
    /// The service's address, without a slash at the end.
    pub base_url: String,
    /// The service's key, which stands in the URL and is never shown [A6].
    pub map_key: String,
}

impl Connector for Firms {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn walk<'a>(&'a self, cursor: &Cursor, _now: Timestamp) -> Box<dyn Walk + 'a> {
        one(self, cursor)
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        rows::rows(body, context)
    }
}

impl Single for Firms {
    fn next(&self, cursor: &Cursor) -> Request {
        let [west, south, east, north] = self.config.area;
        let (base, key, product, days) = (&self.base_url, &self.map_key, self.config.product.name(), self.config.days);
        // Commas stay literal: the service refuses percent-encoded ones.
        let url = format!("{base}/api/area/csv/{key}/{product}/{west},{south},{east},{north}/{days}");
        let validators: Validators = serde_json::from_str(&cursor.0).unwrap_or_default();
        Request { url: SecretUrl::new(url, Some(&self.map_key)), headers: validators.headers() }
    }

    fn absorb(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        if response.status == 304 {
            return Ok(Fetched { body: None, cursor: cursor.clone(), more: false, problem: None });
        }
        if rows::check_header(&response.body).is_ok() {
            let cursor = Cursor(serde_json::to_string(&Validators::of(&response)).unwrap_or_default());
            return Ok(Fetched { body: Some(response.body), cursor, more: false, problem: None });
        }
        Err(told(&response, &self.map_key, now))
    }
}

/// What an answer says that has no header line.
pub(in crate::sources) fn told(response: &Response, map_key: &str, now: Timestamp) -> SourceError {
    // A page may repeat the URL; its key is gone before the text is cut, so that no half of it stays.
    let start = String::from_utf8_lossy(&response.body[..response.body.len().min(4096)]);
    let text: String = start.replace(map_key, "***").chars().take(120).collect();
    let over_quota = text.contains("transaction limit").then(|| now + QUOTA_WAIT);
    if let Some(until) = over_quota.or_else(|| retry_after(response, now)) {
        return SourceError::Busy { until, said: format!("status {}: {text:?}", response.status) };
    }
    if text.contains("Invalid MAP_KEY") {
        SourceError::Refused(format!("status {}: {text:?}: check the FIRMS map key", response.status))
    } else {
        let problem = form::told(Reject::new(Reason::NotData, format!("no detections but {text:?}")), &response.body);
        SourceError::Failed(format!("status {}: {}", response.status, problem.detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn connector() -> Firms {
        Firms {
            source: SourceId::new("firms_viirs_snpp").unwrap(),
            config: Config { product: Product::VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1], days: 2 },
            base_url: "https://example.test".into(),
            map_key: "k3y".into(),
        }
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Result<Fetched, SourceError> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let response = Response { status, headers, body: Bytes::from_static(body.as_bytes()), elapsed: Duration::ZERO };
        connector().absorb(&Cursor("known".into()), response, Timestamp::UNIX_EPOCH)
    }

    const HEADER: &str = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n";

    #[test]
    fn s1_the_url_has_literal_commas_and_never_shows_its_key() {
        let request = connector().next(&Cursor::default());
        let url = "https://example.test/api/area/csv/k3y/VIIRS_SNPP_NRT/-124.5,32.5,-114.1,42.1/2";
        assert_eq!(request.url.reveal(), url);
        assert!(!format!("{request:?} {}", request.url).contains("k3y"));
    }

    #[test]
    fn s1_the_header_line_decides_whatever_the_status() {
        assert!(answer(200, &[], HEADER).is_ok(), "a header alone means no fires");
        assert!(answer(500, &[], HEADER).is_ok());
        assert!(matches!(answer(200, &[], "Invalid MAP_KEY."), Err(SourceError::Refused(_))));
        let said = "status 200: \"Exceeding allowed transaction limit.\"".to_owned();
        let busy = SourceError::Busy { until: Timestamp::UNIX_EPOCH + QUOTA_WAIT, said };
        assert_eq!(answer(200, &[], "Exceeding allowed transaction limit."), Err(busy));
        assert!(matches!(answer(200, &[], ""), Err(SourceError::Failed(_))), "an empty body is not: no fires");
        let Err(SourceError::Failed(text)) = answer(200, &[], "<html>k3y</html>") else { panic!("html was taken") };
        assert!(!text.contains("k3y"), "{text}");
        let page = concat!(
            "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567",
            "890123456789012345678901234567",
            "k3y"
        );
        let Err(SourceError::Failed(text)) = answer(200, &[], page) else { panic!("a page was taken") };
        assert!(!text.contains("k3"), "half of the key is left: {text}");
    }

    #[test]
    fn s11_validators_come_back_as_a_conditional_request_and_retry_after_is_obeyed() {
        let fetched =
            answer(200, &[("etag", "\"a\""), ("last-modified", "Tue, 24 Nov 2026 00:00:00 GMT")], HEADER).unwrap();
        let request = connector().next(&fetched.cursor);
        assert_eq!(request.headers[0], ("if-none-match".to_owned(), "\"a\"".to_owned()));
        assert_eq!(request.headers[1].0, "if-modified-since");
        let nothing = Fetched { body: None, cursor: Cursor("known".into()), more: false, problem: None };
        assert_eq!(answer(304, &[], ""), Ok(nothing));
        let until = Timestamp::UNIX_EPOCH + Duration::from_secs(90);
        let busy = SourceError::Busy { until, said: "status 503: \"busy\"".into() };
        assert_eq!(answer(503, &[("retry-after", "90")], "busy"), Err(busy));
    }

    #[test]
    fn a_config_is_judged_by_field() {
        let with = |area, days| Config { product: Product::MODIS_NRT, area, days }.check();
        assert_eq!(with([-124.5, 32.5, -114.1, 42.1], 5), Ok(()));
        assert!(with([-114.1, 32.5, -124.5, 42.1], 1).unwrap_err().to_string().starts_with("area"));
        assert!(with([-124.5, 32.5, -114.1, 42.1], 6).unwrap_err().to_string().starts_with("days"));
    }
}
