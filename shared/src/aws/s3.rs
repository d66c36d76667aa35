//! Blobs as objects of a bucket, named by their content.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::aws;
use crate::blobs::{BlobRef, Blobs};
use crate::error::BackendError;

/// Objects of one bucket; cheap to clone.
#[derive(Clone)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
}

impl S3Blobs {
    pub(crate) fn new(client: Client, bucket: &str) -> S3Blobs {
        S3Blobs { client, bucket: bucket.into() }
    }
}

/// `path_style` for endpoints that know buckets by path only.
pub(crate) fn client(config: &SdkConfig, path_style: bool) -> Client {
    // The name is the content's hash and is checked when it is read: another checksum adds nothing.
    let config = Builder::from(config)
        .force_path_style(path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, bytes: Bytes) -> Result<BlobRef, BackendError> {
        let blob = BlobRef::of(&bytes);
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key(&blob))
            .if_none_match("*")
            .body(ByteStream::from(bytes))
            .send()
            .await;
        match put {
            Ok(_) => Ok(blob),
            Err(SdkError::ServiceError(e)) if e.err().code() == Some("PreconditionFailed") => Ok(blob),
            Err(e) => Err(aws::failed("S3 bucket", &self.bucket, e)),
        }
    }

    async fn get(&self, blob: &BlobRef) -> Result<Option<Bytes>, BackendError> {
        let get = self.client.get_object().bucket(&self.bucket).key(key(blob)).send().await;
        let object = match get {
            Ok(object) => object,
            Err(SdkError::ServiceError(e)) if e.err().is_no_such_key() => return Ok(None),
            Err(e) => return Err(aws::failed("S3 bucket", &self.bucket, e)),
        };
        let place = || format!("S3 bucket {}, {}", self.bucket, key(blob));
        let bytes =
            object.body.collect().await.map_err(|e| BackendError::Retry(format!("{}: {e}", place())))?.into_bytes();
        if BlobRef::of(&bytes) == *blob {
            Ok(Some(bytes))
        } else {
            Err(BackendError::Fatal(format!("{} was damaged: its content has another hash", place())))
        }
    }

    async fn delete(&self, blob: &BlobRef) -> Result<(), BackendError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(key(blob)).send().await;
        delete.map(|_| ()).map_err(|e| aws::failed("S3 bucket", &self.bucket, e))
    }
}

fn key(blob: &BlobRef) -> String {
    format!("blobs/{blob}")
}
