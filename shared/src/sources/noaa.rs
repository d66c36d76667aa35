//! NOAA's active alerts: polled from api.weather.gov, or read as files, which also hold CAP and the feeds that carry it [S2, S7].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::check_list;
use super::{Id, Records, Services, Source, WrongField, nws};
use crate::connect::feed::{Ask, Feed};
use crate::decode::Format;
use crate::decode::alert::Alert;
use crate::record::{SourceId, Tier, Topic};

pub(super) use nws::SERVICE;

/// NWS's GeoJSON, CAP, or our own JSON.
pub const FORMAT: Format = Format::ALERT;

pub(super) static SOURCE: Source = Source {
    // HIGH, although other weather is NORMAL: whatever is called an alert is [P2].
    ids: &[Id { pattern: "noaa_alerts", name: "NOAA weather alert", tier: Tier::High, topic: Topic::WEATHER }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Alert>(),
        key: &["data.sender", "data.identifier", "data.sent"],
        in_order: true,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

/// Names in one request.
const AREAS: usize = 60;
const ZONES: usize = 100;

/// An alert stream's `config`: one of the three. NWS matches what a product declares, so that a county's alerts do not come under
/// its forecast zones, nor every alert of an area under a point in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NwsAlertsConfig")]
pub struct Config {
    /// States and marine areas by their two letters, such as `CA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub areas: Option<Vec<String>>,
    /// Forecast zones, counties and fire weather zones, such as `CAZ508`, `CAC001`. A fire weather zone has the form of a forecast zone,
    /// and the alerts of both come: a record's `affectedZones` tell which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
    /// Latitude and longitude in degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<[f64; 2]>,
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        1
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongField> {
        let upper = |text: &str, letters: usize| text.bytes().take(letters).all(|byte| byte.is_ascii_uppercase());
        match (&self.areas, &self.zones, self.point) {
            (Some(areas), None, None) => {
                let is_area = |area: &str| area.len() == 2 && upper(area, 2);
                check_list("areas", areas, AREAS, "an area's two capital letters, such as \"CA\"", is_area)
            }
            (None, Some(zones), None) => {
                let is_zone = |zone: &str| {
                    let digits = zone.get(3..).unwrap_or_default();
                    zone.len() == 6
                        && upper(zone, 2)
                        && matches!(zone.as_bytes()[2], b'C' | b'Z')
                        && digits.bytes().all(|byte| byte.is_ascii_digit())
                };
                check_list("zones", zones, ZONES, "a zone or county, such as \"CAZ508\" or \"CAC001\"", is_zone)
            }
            (None, None, Some([latitude, longitude])) => {
                if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
                    Ok(())
                } else {
                    Err(WrongField::new("point", "latitude and longitude must be degrees in range, latitude first"))
                }
            }
            (None, None, None) => Err(WrongField::new("areas", "is missing; or give zones or point")),
            _ => Err(WrongField::new("areas", "only one of areas, zones and point can be given")),
        }
    }

    fn query(&self) -> String {
        match (&self.areas, &self.zones, self.point) {
            (Some(areas), ..) => format!("area={}", areas.join(",")),
            (_, Some(zones), _) => format!("zone={}", zones.join(",")),
            // More than four decimals, and zeros at the end, are answered by a redirect.
            (.., point) => {
                let [latitude, longitude] = point.unwrap_or_default().map(|degrees| (degrees * 1e4).round() / 1e4);
                format!("point={latitude},{longitude}")
            }
        }
    }
}

pub(super) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Feed, String> {
    let path = format!("/alerts/active?status=actual&{}", config.query());
    Ok(nws::feed(services, vec![Ask { name: "alerts".into(), path }], FORMAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_one_of_three_and_judged_by_field() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let areas = |names: &[&str]| Config { areas: list(names), ..Config::default() };
        let zones = |names: &[&str]| Config { zones: list(names), ..Config::default() };
        let point = |point| Config { point: Some(point), ..Config::default() };
        for (config, query) in [
            (areas(&["CA", "NV"]), "area=CA,NV"),
            (zones(&["CAZ508", "CAC001"]), "zone=CAZ508,CAC001"),
            (point([37.770_04, -122.4]), "point=37.77,-122.4"),
        ] {
            assert_eq!((config.check(), config.query().as_str()), (Ok(()), query));
        }
        for (config, says) in [
            (Config::default(), "areas: is missing"),
            (Config { zones: list(&["CAZ508"]), ..areas(&["CA"]) }, "areas: only one"),
            (areas(&[]), "areas: 0 entries"),
            (areas(&["ca"]), "areas: \"ca\" is not"),
            (areas(&["CA", "CA"]), "areas: \"CA\" is given twice"),
            (zones(&["CAX508"]), "zones: \"CAX508\" is not"),
            (zones(&["CÄZ50"]), "zones: \"CÄZ50\" is not"),
            (point([-122.4, 37.7]), "point: latitude and longitude"),
        ] {
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(says), "{said}");
        }
    }
}
