//! What every blob store must do, as laws over the trait. Nothing here knows an implementation.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::{BlobRef, Blobs};

/// One law at work.
pub type Run<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
/// Takes a salt, which keeps runs on one endpoint apart.
pub type Law = (&'static str, for<'a> fn(&'a dyn Blobs, &'a str) -> Run<'a>);

macro_rules! laws {
    ($($name:ident),+ $(,)?) => {
        /// Every law by its name; each must hold on every implementation.
        pub const LAWS: &[Law] = &[$((stringify!($name), |blobs, salt| Box::pin($name(blobs, salt)))),+];
    };
}

laws![
    absent_is_none,
    what_is_put_is_got_by_its_content,
    putting_again_is_the_same,
    large_and_empty,
    what_is_deleted_is_gone_and_can_be_put_again,
];

/// Runs every law.
pub async fn run(blobs: &dyn Blobs, salt: &str) {
    for (_, law) in LAWS {
        law(blobs, salt).await;
    }
}

async fn absent_is_none(blobs: &dyn Blobs, salt: &str) {
    let never = BlobRef::of(format!("never put {salt}").as_bytes());
    assert_eq!(blobs.get(&never).await.expect("get"), None);
}

async fn what_is_put_is_got_by_its_content(blobs: &dyn Blobs, salt: &str) {
    let bytes: Bytes = (0..=255u8).chain(salt.bytes()).collect();
    let blob = blobs.put(bytes.clone()).await.expect("put");
    assert_eq!(blob, BlobRef::of(&bytes));
    assert_eq!(blobs.get(&blob).await.expect("get"), Some(bytes));
    let other = blobs.put(Bytes::from(format!("other {salt}"))).await.expect("put");
    assert_ne!(other, blob);
}

async fn putting_again_is_the_same(blobs: &dyn Blobs, salt: &str) {
    let bytes = Bytes::from(format!("again {salt}"));
    let again = futures::future::join_all((0..6).map(|_| blobs.put(bytes.clone()))).await;
    for blob in again {
        assert_eq!(blob.expect("put"), BlobRef::of(&bytes));
    }
    assert_eq!(blobs.put(bytes.clone()).await.expect("put"), BlobRef::of(&bytes));
    assert_eq!(blobs.get(&BlobRef::of(&bytes)).await.expect("get"), Some(bytes));
}

async fn large_and_empty(blobs: &dyn Blobs, salt: &str) {
    let large: Bytes = salt.bytes().cycle().take(5_000_003).collect();
    let blob = blobs.put(large.clone()).await.expect("put");
    assert!(blobs.get(&blob).await.expect("get") == Some(large));
    let empty = blobs.put(Bytes::new()).await.expect("put");
    assert_eq!(blobs.get(&empty).await.expect("get"), Some(Bytes::new()));
}

async fn what_is_deleted_is_gone_and_can_be_put_again(blobs: &dyn Blobs, salt: &str) {
    let (bytes, other) = (Bytes::from(format!("to be deleted {salt}")), Bytes::from(format!("to stay {salt}")));
    let (blob, stays) = (blobs.put(bytes.clone()).await.expect("put"), blobs.put(other.clone()).await.expect("put"));
    for _ in 0..2 {
        blobs.delete(&blob).await.expect("deleting what is not there is no error");
        assert_eq!(blobs.get(&blob).await.expect("get"), None);
    }
    assert_eq!(blobs.get(&stays).await.expect("get"), Some(other));
    assert_eq!(blobs.put(bytes.clone()).await.expect("put"), blob);
    assert_eq!(blobs.get(&blob).await.expect("get"), Some(bytes));
}
