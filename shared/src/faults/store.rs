//! A store whose calls fail as told. A write whose answer is lost was made: the next try meets its own version.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::BackendError;
use crate::faults::Faulty;
use crate::store::{Expect, Item, Key, PutError, Store, Version};
use crate::time::Timestamp;

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn get(&self, key: &Key) -> Result<Option<Item>, BackendError> {
        self.call("get", self.inner.get(key)).await
    }

    async fn list(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Item>, BackendError> {
        self.call("list", self.inner.list(partition, prefix, after, max)).await
    }

    async fn put_if(
        &self,
        key: &Key,
        value: Bytes,
        expect: Expect,
        expires: Option<Timestamp>,
    ) -> Result<Version, PutError> {
        self.call("put", self.inner.put_if(key, value, expect, expires)).await
    }

    async fn delete_if(&self, key: &Key, expect: Expect) -> Result<(), PutError> {
        self.call("delete", self.inner.delete_if(key, expect)).await
    }
}
