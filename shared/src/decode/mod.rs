//! Bytes of one format → drafts, one file a format that several sources send; what one source alone writes stands in its
//! folder of `sources`. Pure functions over untrusted bytes: they never panic, never block, and a bad row costs that row
//! alone [S8, S9, A6].

pub(crate) mod again;
pub(crate) mod alert;
pub mod encoding;
pub(crate) mod esri;
pub mod form;
pub mod head;
pub mod sensor;

pub(crate) mod geometry;
pub(crate) mod items;
mod json;
#[cfg(test)]
mod mutation;
pub(crate) mod named;
pub(crate) mod nws;
pub(crate) mod pacific;
pub(crate) mod salvage;
#[cfg(any(test, feature = "testing"))]
pub mod specimens;
pub(crate) mod table;
pub(crate) mod xml;

use bytes::Bytes;

use self::head::{Head, Mark};
use crate::error::Reject;
use crate::record::{Draft, SourceId};
use crate::time::Timestamp;

/// One row, feature or message: read, or refused with its original bytes.
pub type Row = Result<Draft, Reject>;
/// A body's rows in their order, decoded as they are asked for.
pub type Rows<'a> = Box<dyn Iterator<Item = Row> + Send + 'a>;

/// A way to read bytes, under the name that `--format` takes.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// As `--format` takes it.
    pub name: &'static str,
    marks: &'static [Mark],
    rows: for<'a> fn(&'a Bytes, Context<'a>) -> Result<Rows<'a>, Reject>,
}

/// What the transport knows beside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The stream's source id; a row may decide otherwise [S1].
    pub source: &'a SourceId,
    /// When it came; the time of a reading that tells none.
    pub received_at: Timestamp,
    /// The MQTT topic of a pushed message: `sensors/{kind}/{id}/state`.
    pub topic: Option<&'a str>,
    /// The name of a pushed message, the same at every delivery; without one the body's bytes name it [S12].
    pub message: Option<&'a str>,
}

impl Format {
    /// One JSON reading a message, or lists of them [S3].
    pub const SENSOR: Format = Format::new("sensor", sensor::rows).known_by(sensor::MARKS);
    /// A life-safety alert as JSON (our schema) or CAP 1.1 / 1.2 [S7, E5].
    pub const ALERT: Format = Format::new("alert", alert::rows).known_by(alert::MARKS);

    /// A format of this name, whose bodies `rows` reads.
    pub(crate) const fn new(
        name: &'static str,
        rows: for<'a> fn(&'a Bytes, Context<'a>) -> Result<Rows<'a>, Reject>,
    ) -> Format {
        Format { name, marks: &[], rows }
    }

    /// With what tells its bodies from those of all other formats; without, it has to be named.
    pub(crate) const fn known_by(self, marks: &'static [Mark]) -> Format {
        Format { marks, ..self }
    }

    /// The first of its marks that this head has.
    pub(crate) fn recognised(self, head: &Head<'_>) -> Option<&'static Mark> {
        self.marks.iter().find(|mark| mark.fits(head))
    }

    /// The rows of `body`.
    ///
    /// # Errors
    /// When the body as a whole does not hold data of this format: `not_data`, `bad_json`, `bad_xml`, `doctype`, `too_large`.
    pub fn rows<'a>(self, body: &'a Bytes, context: Context<'a>) -> Result<Rows<'a>, Reject> {
        (self.rows)(body, context).map_err(|reject| form::told(reject, body))
    }
}

/// What a sender wrote, as much of it as a message shows.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
