//! What a record was made of and who pushed it: kept beside it for the case that it must be refused [S9].

use std::sync::Arc;

use bytes::Bytes;

use super::{Data, Lineage};
use crate::error::{Reject, Sender};

/// Where a draft comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The record's own bytes of its body; empty where they are not apart from others'.
    pub raw: Bytes,
    /// Of a table's row: the line that names its columns.
    pub header: Option<Arc<[u8]>>,
    /// Who pushed it, where that is known.
    pub sender: Option<Arc<Sender>>,
    /// What it was before, when it is a dead letter that is redriven [R4].
    pub lineage: Option<Arc<Lineage>>,
}

impl Origin {
    /// Of these bytes, by nobody known.
    pub fn of(raw: Bytes) -> Origin {
        Origin { raw, ..Origin::default() }
    }

    /// The same, of a table's row, with the line that names its columns.
    pub(crate) fn under(mut self, header: &Arc<[u8]>) -> Origin {
        self.header = Some(header.clone());
        self
    }

    /// A reject of what came from here, with its own bytes, or with its data where others' stood between them, and with who
    /// pushed it.
    pub(crate) fn refused(&self, data: &Data, mut reject: Reject) -> Reject {
        if reject.raw.is_empty() {
            reject.raw = if self.raw.is_empty() { data.json().to_owned().into() } else { self.raw.clone() };
        }
        reject.header = self.header.clone();
        reject.lineage = self.lineage.clone();
        let Some(sender) = &self.sender else { return reject };
        let data: serde_json::Value = serde_json::from_str(data.json()).unwrap_or_default();
        let named = data["sensor_id"].as_str().map(str::to_owned);
        reject.sent_by(&Sender { sensor: named.or_else(|| sender.sensor.clone()), ..(**sender).clone() })
    }
}
