//! Rules of S3's objects, on this host's files and on endpoints that speak S3, through the same seam.

use bytes::Bytes;
use futures::future::BoxFuture;
use streammanager::blobs::{BlobRef, Blobs};

use super::case::{Case, Outcome, Unmet, cases, holds};

pub type Check = for<'a> fn(&'a dyn Blobs) -> BoxFuture<'a, Outcome>;

const CONSISTENCY: &str = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html";
const GET: &str = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html";
const PUT: &str = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html";
const DELETE: &str = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html";

pub const CASES: &[Case<Check>] = cases![
    "s3/read-after-write", CONSISTENCY, "An object that was put can be read at once.", |blobs| {
        let blob = blobs.put(Bytes::from_static(b"read after write")).await?;
        holds!(blobs.get(&blob).await?, Some(Bytes::from_static(b"read after write")));
    }
    "s3/absent", GET, "A key that has no object is answered as such, not as an empty object.", |blobs| {
        holds!(blobs.get(&BlobRef::of(b"nobody put this")).await?, None);
    }
    "s3/put-again", PUT, "A second put of a key takes the first one's place: one deletion leaves nothing.", |blobs| {
        // A key is made of the bytes here, so that both puts have the same.
        let first = blobs.put(Bytes::from_static(b"twice")).await?;
        let second = blobs.put(Bytes::from_static(b"twice")).await?;
        holds!(first, second);
        holds!(blobs.get(&first).await?, Some(Bytes::from_static(b"twice")));
        blobs.delete(&first).await?;
        holds!(blobs.get(&second).await?, None);
    }
    "s3/any-bytes", PUT, "An object holds any bytes.", |blobs| {
        let bytes = Bytes::from((0..=255_u8).collect::<Vec<u8>>());
        let blob = blobs.put(bytes.clone()).await?;
        holds!(blobs.get(&blob).await?, Some(bytes));
    }
    "s3/empty", PUT, "An object may be empty.", |blobs| {
        let blob = blobs.put(Bytes::new()).await?;
        holds!(blobs.get(&blob).await?, Some(Bytes::new()));
    }
    "s3/large", PUT, "An object of several MB is taken in one put.", |blobs| {
        let bytes = Bytes::from(vec![7; 8 * 1024 * 1024]);
        let blob = blobs.put(bytes.clone()).await?;
        holds!(blobs.get(&blob).await?.map(|got| got.len()), Some(bytes.len()));
    }
    "s3/delete", CONSISTENCY, "A deleted object cannot be read any more, at once.", |blobs| {
        let blob = blobs.put(Bytes::from_static(b"to be deleted")).await?;
        blobs.delete(&blob).await?;
        holds!(blobs.get(&blob).await?, None);
    }
    "s3/delete-absent", DELETE, "Deleting what is not there is no error.", |blobs| {
        blobs.delete(&BlobRef::of(b"nobody put this either")).await?;
    }
];
