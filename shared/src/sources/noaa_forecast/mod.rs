//! What api.weather.gov forecasts for one cell of its grid, and how one gets there: the periods of a forecast, days or hours; the
//! raw grid's layers, those for fires among them; which cell a point lies in; which stations observe it [S2]. And what the National
//! Digital Forecast Database tells of a point, as DWML out of files.

mod document;
mod dwml;
mod poll;
mod record;

use bytes::Bytes;

use super::{Id, Records, Source};
use crate::decode::head::Mark;
use crate::decode::{Context, Format, Rows, encoding};
use crate::error::Reject;
use crate::record::{Tier, Topic};
use record::Forecast;

pub(super) use super::nws::SERVICE;
pub(super) use poll::connector;
pub use poll::{Config, Document};

/// api.weather.gov's forecasts, raw grids, points and lists of stations.
pub const FORMAT: Format = Format::new("nws-forecast", rows).known_by(&[
    Mark::names("noaa_forecast", &["periods", "startTime"]),
    Mark::names("noaa_forecast", &["gridId", "gridX"]),
    Mark::names("noaa_forecast", &["stationIdentifier"]),
    Mark::text("noaa_forecast", "<dwml"),
]);

pub(super) static SOURCE: Source = Source {
    ids: &[Id { pattern: "noaa_forecast", name: "NOAA weather forecast", tier: Tier::Normal, topic: Topic::WEATHER }],
    records: Some(Records {
        format: FORMAT,
        data: |generator| generator.subschema_for::<Forecast>(),
        // A forecast that is made anew is another event: it does not correct the one before.
        key: &["data.kind", "data.place", "data.layer", "data.start", "data.end", "data.updated_at"],
        in_order: true,
        lasting: false,
    }),
    service: Some(&SERVICE),
};

fn rows<'a>(body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
    let is_xml = encoding::without_mark(body).trim_ascii_start().starts_with(b"<");
    let read = if is_xml { dwml::rows(body, context) } else { document::rows(body, context) };
    read.map_err(|reject| reject.with_raw(body.clone()))
}
