//! Blobs whose calls fail as told.

use async_trait::async_trait;
use bytes::Bytes;

use crate::blobs::{BlobRef, Blobs};
use crate::error::BackendError;
use crate::faults::Faulty;

#[async_trait]
impl<B: Blobs> Blobs for Faulty<B> {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        self.call("put", self.inner.put(bytes)).await
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        self.call("get", self.inner.get(blob)).await
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        self.call("delete", self.inner.delete(blob)).await
    }
}
