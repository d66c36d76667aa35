//! Blobs in memory, for simulation and tests: durable once they are put, as those of every implementation.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{BlobRef, Blobs};
use crate::error::BackendError;

/// Clones hold the same blobs.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<String, Bytes>>>);

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        let blob = BlobRef::of(&bytes);
        self.0.lock().insert(blob.as_str().to_owned(), bytes);
        Ok(blob)
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        Ok(self.0.lock().get(blob.as_str()).cloned())
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        self.0.lock().remove(blob.as_str());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_the_laws() {
        crate::blobs::conformance::run(&MemoryBlobs::default(), "memory").await;
    }
}
