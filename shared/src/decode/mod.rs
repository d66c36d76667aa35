//! Bytes of one format → drafts, one file a format. Pure functions over untrusted bytes: they never panic, never block,
//! and a bad row costs that row alone [S8, S9, A6].

pub mod alert;
pub mod firms;
pub mod sensor;

mod json;
#[cfg(test)]
mod mutation;
mod xml;

use bytes::Bytes;

use crate::error::Reject;
use crate::record::{Draft, SourceId};
use crate::time::Timestamp;

/// One row, feature or message: read, or refused with its original bytes.
pub type Row = Result<Draft, Reject>;
/// A body's rows in their order, decoded as they are asked for.
pub type Rows<'a> = Box<dyn Iterator<Item = Row> + Send + 'a>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// NASA FIRMS CSV of any product [S1].
    Firms,
    /// One JSON reading a message [S3].
    Sensor,
    /// A life-safety alert as JSON (our schema) or CAP 1.1 / 1.2 [S7, E5].
    Alert,
}

/// What the transport knows beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The stream's source id; a row may decide otherwise [S1].
    pub source: &'a SourceId,
    pub received_at: Timestamp,
    /// The MQTT topic of a pushed message: `sensors/{kind}/{id}/state`.
    pub topic: Option<&'a str>,
}

impl Format {
    /// The format that a source's bodies have; `None` for a source without a decoder.
    pub fn of(source: &SourceId) -> Option<Format> {
        let id = source.as_str();
        match id {
            _ if id.starts_with("firms_") || id.starts_with("historical_firms") || id == "landsat_nrt" => {
                Some(Format::Firms)
            }
            _ if id.starts_with("iot_") => Some(Format::Sensor),
            _ if crate::record::route::is_critical(source) => Some(Format::Alert),
            _ => None,
        }
    }

    pub fn named(name: &str) -> Option<Format> {
        match name {
            "firms" => Some(Format::Firms),
            "sensor" => Some(Format::Sensor),
            "alert" => Some(Format::Alert),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Firms => "firms",
            Format::Sensor => "sensor",
            Format::Alert => "alert",
        }
    }

    /// The rows of `body`.
    ///
    /// # Errors
    /// When the body as a whole is no data of this format: `not_data`, `bad_json`, `bad_xml`, `doctype`, `too_large`.
    pub fn rows<'a>(self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        match self {
            Format::Firms => firms::rows(body, context),
            Format::Sensor => sensor::rows(body, context),
            Format::Alert => alert::rows(body, context),
        }
    }
}
