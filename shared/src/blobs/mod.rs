//! The blobs seam: bytes too large for an item, by content: dead letters' originals, quarantine, claim checks.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod memory;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::BackendError;
use crate::record::ids::hex;
#[cfg(feature = "testing")]
pub use memory::MemoryBlobs;

/// SHA-256 of the bytes, in hex: the same bytes have the same reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobRef(String);

impl BlobRef {
    /// The reference of these bytes: their SHA-256.
    pub fn of(bytes: &[u8]) -> BlobRef {
        BlobRef(hex(&Sha256::digest(bytes)))
    }

    /// 64 lower-case hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BlobRef {
    type Err = String;
    fn from_str(text: &str) -> Result<BlobRef, String> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(BlobRef(text.into()))
        } else {
            Err(format!("{text:?} is not a blob reference: 64 lower-case hex digits"))
        }
    }
}

impl TryFrom<String> for BlobRef {
    type Error = String;
    fn try_from(text: String) -> Result<BlobRef, String> {
        text.parse()
    }
}

impl From<BlobRef> for String {
    fn from(blob: BlobRef) -> String {
        blob.0
    }
}

impl fmt::Display for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes stored under their own hash.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Durable once it returns; putting the same bytes again is cheap and gives the same reference.
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError>;

    /// `None` when nothing was put under this reference.
    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError>;

    /// Nothing is there once it returns; that nothing was there is no error.
    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError>;
}
