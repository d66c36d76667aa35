//! What can go wrong, by what the caller does next: reject this record, try again, or stop. No error type lists
//! dependencies; the text says what, where and which rule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::record::Lineage;
use crate::time::Timestamp;

/// Why a record can never be accepted or delivered. The codes are part of the contract: extended, never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The body as a whole holds no data: an error text, a log-in page.
    NotData,
    /// Not well-formed JSON, or JSON of another shape than the format's.
    BadJson,
    /// Not well-formed XML, or XML that is not CAP.
    BadXml,
    /// XML with a document type declaration or entities of its own: refused unread [A6].
    Doctype,
    /// Fewer columns than the header.
    ShortRow,
    /// A field without which a record says nothing is missing or empty [S9].
    MissingField,
    /// A latitude that is not a number from -90 to 90.
    BadLatitude,
    /// A longitude that is not a number from -180 to 180.
    BadLongitude,
    /// A time that cannot be read, or that its format does not allow.
    BadTime,
    /// Observed later than now plus the clock-skew bound [S9].
    FutureTime,
    /// A polygon that cannot be read, where there is no record without it.
    BadPolygon,
    /// Larger than a bound of `limits.rs`, which the detail names with the size in bytes.
    TooLarge,
    /// A critical id without a grant, an unknown key, a wrong principal [A1, A2].
    UnauthorisedSource,
    /// The sink refused the record for good.
    SinkRefused,
}

impl Reason {
    /// The code as it stands in ledgers, metrics and dead letters.
    pub fn code(self) -> &'static str {
        match self {
            Reason::NotData => "not_data",
            Reason::BadJson => "bad_json",
            Reason::BadXml => "bad_xml",
            Reason::Doctype => "doctype",
            Reason::ShortRow => "short_row",
            Reason::MissingField => "missing_field",
            Reason::BadLatitude => "bad_latitude",
            Reason::BadLongitude => "bad_longitude",
            Reason::BadTime => "bad_time",
            Reason::FutureTime => "future_time",
            Reason::BadPolygon => "bad_polygon",
            Reason::TooLarge => "too_large",
            Reason::UnauthorisedSource => "unauthorised_source",
            Reason::SinkRefused => "sink_refused",
        }
    }
}

impl FromStr for Reason {
    type Err = String;
    fn from_str(text: &str) -> Result<Reason, String> {
        serde_json::from_value(text.into()).map_err(|_| format!("{text:?} is not a reason code such as bad_latitude"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One record refused for good: why, where in its source, and its original bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Why; the caller counts by it.
    pub reason: Reason,
    /// Names the field and the rule it broke, with the offending text shortened.
    pub detail: String,
    /// 1-based row, feature or message number within the body, where there are several.
    pub row: Option<u64>,
    /// The bytes as they came, of this record alone where several came together; empty until `with_raw`.
    pub raw: Bytes,
    /// The line of a table that names the columns of `raw`: without it the row cannot be read again.
    pub header: Option<Arc<[u8]>>,
    /// Who pushed it, where that is known.
    pub sender: Option<Box<Sender>>,
    /// What it was before, when it is a dead letter that was redriven [R4].
    pub lineage: Option<Arc<Lineage>>,
}

/// Where a pushed message came from, as far as that is known [S9].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The MQTT topic it was published on; empty for what did not come over MQTT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub topic: String,
    /// The registered sender of an alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// The MQTT client id, which the client chose itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Who the broker found the client to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Of a reading: the sensor, as the reading names it, or as its topic does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// Of a reading: the shard of the stream that carried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Of a reading: its sequence number in the shard, which is also the message's name [S12].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<String>,
    /// When the broker had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
}

impl Reject {
    /// A reject without row and bytes.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Reject {
        Reject {
            reason,
            detail: detail.into(),
            row: None,
            raw: Bytes::new(),
            header: None,
            sender: None,
            lineage: None,
        }
    }

    /// The same reject, of this row.
    pub fn at_row(mut self, row: u64) -> Reject {
        self.row = Some(row);
        self
    }

    /// The same reject with who pushed it.
    pub fn sent_by(mut self, sender: &Sender) -> Reject {
        self.sender = Some(Box::new(sender.clone()));
        self
    }

    /// The same reject of a table's row, with the line that names its columns.
    pub fn under(mut self, header: &Arc<[u8]>) -> Reject {
        self.header = Some(header.clone());
        self
    }

    /// The same reject with the bytes that it came in.
    pub fn with_raw(mut self, raw: impl Into<Bytes>) -> Reject {
        self.raw = raw.into();
        self
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}: ")?;
        }
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// A backend (queue, store, sink, blobs) could not do it. What the caller does next is the variant.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// Away or overloaded: the same call may succeed later.
    #[error("{0}")]
    Retry(String),
    /// Wrong configuration or a broken promise: trying again cannot help.
    #[error("{0}")]
    Fatal(String),
}
