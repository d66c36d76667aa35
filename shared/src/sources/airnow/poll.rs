//! AirNow's API: the last hours of an area [S11, S17].

use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows;
use crate::connect::keyed;
use crate::connect::politeness::Manners;
use crate::connect::{Connector, Cursor, Fetched, SourceError, Walk};
use crate::decode::{Context, Rows, short};
use crate::error::Reject;
use crate::record::SourceId;
use crate::sources::config::check_list;
use crate::sources::{Service, Services, WrongField, WrongFields, check_area};
use crate::time::Timestamp;
use crate::upstream::{Request, Response, SecretUrl};

pub(in crate::sources) static SERVICE: Service = Service {
    name: "AirNow",
    address: "https://www.airnowapi.org",
    address_setting: "AIRNOW_BASE_URL",
    address_parameter: "AirNowBaseUrl",
    key_setting: Some("AIRNOW_API_KEY"),
    // 500 requests of a key in an hour; its data change twice an hour.
    manners: Manners { a_minute: 8, least_interval: Duration::from_secs(60), apart: Some(Duration::from_secs(1)) },
};

pub(in crate::sources) const HOUR: Duration = Duration::from_secs(3600);
/// Hours that are read again: values come late, and are revised.
pub(in crate::sources) const HOURS: u8 = 4;
/// The longest time to read again.
pub(in crate::sources) const HOURS_MAX: u8 = 48;

/// A parameter as the API's address names it.
const PARAMETERS: [&str; 6] = ["OZONE", "PM25", "PM10", "CO", "NO2", "SO2"];

/// An AirNow stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AirnowConfig")]
pub struct Config {
    /// West, south, east, north in degrees.
    pub area: [f64; 4],
    /// `OZONE`, `PM25`, `PM10`, `CO`, `NO2`, `SO2`; all of them if it is left out.
    #[serde(default = "all")]
    pub parameters: Vec<String>,
    /// Hours back from now that every poll reads, since values come late and are revised: 1 to 48.
    #[serde(default = "hours")]
    pub hours: u8,
}

fn all() -> Vec<String> {
    PARAMETERS.map(str::to_owned).to_vec()
}

pub(in crate::sources) fn hours() -> u8 {
    HOURS
}

pub(in crate::sources) fn check_hours(hours: u8) -> Result<(), WrongField> {
    if (1..=HOURS_MAX).contains(&hours) {
        Ok(())
    } else {
        Err(WrongField::new("hours", format!("{hours} is not in 1..{HOURS_MAX}")))
    }
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let is_known = |name: &str| PARAMETERS.contains(&name);
        let parameters = check_list(
            "parameters",
            &self.parameters,
            PARAMETERS.len(),
            &format!("one of {}", PARAMETERS.join(", ")),
            is_known,
        );
        WrongFields::all([check_area(&self.area), parameters, check_hours(self.hours)])
    }
}

/// One stream's connector, with the service's address and key.
pub(in crate::sources) struct Airnow {
    config: Config,
    base_url: String,
    /// It stands in the URL and is never shown [A6].
    key: String,
}

pub(in crate::sources) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Airnow, String> {
    let key = keyed::plain(services.key(&SERVICE)?, "AIRNOW_API_KEY")?.to_owned();
    Ok(Airnow { config, base_url: services.address(&SERVICE).to_owned(), key })
}

/// The start of the hour in which a time lies.
pub(in crate::sources) fn hour_of(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(HOUR.as_secs() as i64)).unwrap_or(at)
}

impl Airnow {
    /// What is asked at this time.
    fn request(&self, now: Timestamp) -> Request {
        let [west, south, east, north] = self.config.area;
        let hour = |at: Timestamp| at.strftime("%Y-%m-%dT%H").to_string();
        let (end, start) = (hour_of(now), hour_of(now) - HOUR * u32::from(self.config.hours));
        let (base, key, parameters) = (&self.base_url, &self.key, self.config.parameters.join(","));
        let url = format!(
            "{base}/aq/data/?startDate={}&endDate={}&parameters={parameters}&BBOX={west},{south},{east},{north}&dataType=B\
             &format=application/json&verbose=1&includerawconcentrations=1&API_KEY={key}",
            hour(start),
            hour(end)
        );
        let headers = vec![("accept".to_owned(), "application/json".to_owned())];
        Request { url: SecretUrl::new(url, Some(&self.key)), headers }
    }

    fn judge(&self, cursor: &Cursor, response: Response, now: Timestamp) -> Result<Fetched, SourceError> {
        let read: Option<Value> = serde_json::from_slice(&response.body).ok();
        let is_data = |list: &Vec<Value>| list.first().is_none_or(|first| first.get("Parameter").is_some());
        match (response.status, read.as_ref().and_then(Value::as_array).filter(|list| is_data(list))) {
            (200, Some(list)) => {
                let empty = "its answer is empty: it has nothing of this area and time, or the key's requests of the hour are used up";
                let problem = list.is_empty().then(|| empty.to_owned());
                Ok(Fetched { body: Some(response.body), cursor: cursor.clone(), more: false, problem })
            }
            _ => Err(self.error(&response, read.as_ref(), now)),
        }
    }

    /// What it says of an error, as JSON in several forms or as a text.
    fn error(&self, response: &Response, read: Option<&Value>, now: Timestamp) -> SourceError {
        let told = read.and_then(|read| {
            let list = read.get("WebServiceError").unwrap_or(read);
            let first = list.get(0).unwrap_or(list);
            let message = first.get("Message").or_else(|| first.get("message"))?.as_str()?;
            Some(short(&keyed::without_key(message, &self.key)))
        });
        let Some(told) = told else { return keyed::refused(response, &self.key, now) };
        let (said, lower) = (format!("status {}: {told}", response.status), told.to_ascii_lowercase());
        if lower.contains("limit") || lower.contains("exceeded") {
            // The quota is an hour's.
            return SourceError::Busy { until: hour_of(now) + HOUR, said };
        }
        if lower.contains("key") || matches!(response.status, 401 | 403) {
            return SourceError::Refused(format!("{said}: check AIRNOW_API_KEY"));
        }
        SourceError::Failed(said)
    }
}

/// One request, for what it asks depends on the time.
struct Asking<'a> {
    airnow: &'a Airnow,
    cursor: Cursor,
    request: Request,
}

impl Walk for Asking<'_> {
    fn next(&self) -> Request {
        self.request.clone()
    }

    fn absorb(&mut self, response: Response, now: Timestamp) -> Result<Option<Fetched>, SourceError> {
        self.airnow.judge(&self.cursor, response, now).map(Some)
    }
}

impl Connector for Airnow {
    fn host(&self) -> &str {
        &self.base_url
    }

    fn rows<'a>(&'a self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        rows::rows(body, context, None)
    }

    fn walk<'a>(&'a self, cursor: &Cursor, now: Timestamp) -> Box<dyn Walk + 'a> {
        Box::new(Asking { airnow: self, cursor: cursor.clone(), request: self.request(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector() -> Airnow {
        let config = Config { area: [-124.5, 32.5, -114.1, 42.1], parameters: vec!["PM25".into()], hours: 3 };
        Airnow { config, base_url: "https://example.test".into(), key: "k3y-1".into() }
    }

    fn noon() -> Timestamp {
        "2026-08-01T12:20:00Z".parse().unwrap()
    }

    fn answer(status: u16, body: &str) -> Result<Fetched, SourceError> {
        let body = Bytes::from(body.to_owned());
        let response = Response { status, headers: Vec::new(), body, elapsed: Duration::ZERO };
        connector().judge(&Cursor::default(), response, noon())
    }

    #[test]
    fn a6_the_last_hours_are_asked_for_and_the_key_is_not_shown() {
        let connector = connector();
        let request = connector.walk(&Cursor::default(), noon()).next();
        let address = "https://example.test/aq/data/?startDate=2026-08-01T09&endDate=2026-08-01T12&parameters=PM25\
            &BBOX=-124.5,32.5,-114.1,42.1&dataType=B&format=application/json&verbose=1&includerawconcentrations=1&API_KEY=k3y-1";
        assert_eq!(request.url.reveal(), address);
        assert!(!format!("{request:?}").contains("k3y"));
        assert!(!answer(401, r#"[{"Message": "k3y-1 is no API key"}]"#).unwrap_err().to_string().contains("k3y"));
    }

    #[test]
    fn s17_an_empty_answer_is_none_and_says_that_it_may_be_the_quota_and_an_error_is_none_of_both() {
        let none = answer(200, "[]").unwrap();
        assert!(none.body.is_some() && none.problem.unwrap().contains("used up"));
        assert_eq!(answer(200, r#"[{"Parameter": "PM2.5"}]"#).unwrap().problem, None);
        for (status, body, is_refusal, says) in [
            (401, r#"[{"Message": "Invalid API key"}]"#, true, "Invalid API key: check AIRNOW_API_KEY"),
            (200, r#"{"WebServiceError": [{"Message": "Invalid API key"}]}"#, true, "Invalid API key"),
            (403, "<html></html>", true, "it is a web page"),
            (400, r#"{"WebServiceError": [{"Message": "BBOX is too large"}]}"#, false, "BBOX is too large"),
            (200, "", false, "status 200"),
            (200, r#"{"odd": 1}"#, false, "status 200"),
        ] {
            let error = answer(status, body).unwrap_err();
            assert_eq!(matches!(error, SourceError::Refused(_)), is_refusal, "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let over = answer(429, r#"[{"Message": "Web service request limit exceeded"}]"#).unwrap_err();
        let until = "2026-08-01T13:00:00Z".parse().unwrap();
        assert_eq!(over, SourceError::Busy { until, said: "status 429: Web service request limit exceeded".into() });
    }

    #[test]
    fn a_config_is_judged_by_field() {
        let Airnow { config, .. } = connector();
        let said = |config: Config| config.check().unwrap_err().to_string();
        assert_eq!(config.check(), Ok(()));
        assert!(said(Config { hours: 0, ..config.clone() }).starts_with("hours: 0 is not in 1..48"));
        assert!(
            said(Config { parameters: vec!["PM2.5".into()], ..config })
                .starts_with("parameters: \"PM2.5\" is not one of")
        );
    }
}
