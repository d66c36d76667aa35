//! What every store must do, as laws over the trait; each works in a partition of its own name. Nothing here knows an
//! implementation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::time::sleep;

use super::{Expect, Item, Key, PutError, Store, VALUE_BYTES, Version};
use crate::time::Clock;

/// How long the short-lived items live.
const LIFE: Duration = Duration::from_secs(2);

/// An implementation under test.
#[async_trait]
pub trait TestStores: Send + Sync {
    /// The store as it is now; after a crash another one.
    fn store(&self) -> Arc<dyn Store>;

    /// The clock that the store goes by.
    fn clock(&self) -> Clock;

    /// Kills the implementation and starts it on what it left. `false`: it cannot; the law ends there.
    async fn crash(&self) -> bool {
        false
    }
}

/// One law at work.
pub type Run<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
/// A law's name, which is also its partition, and the law.
pub type Law = (&'static str, for<'a> fn(&'a dyn TestStores) -> Run<'a>);

macro_rules! laws {
    ($($name:ident),+ $(,)?) => {
        /// Every law; each must hold on every implementation.
        pub const LAWS: &[Law] = &[$((stringify!($name), |world| Box::pin($name(world, stringify!($name))))),+];
    };
}

laws![
    absent_is_none,
    what_is_put_is_got,
    any_always_writes,
    absent_writes_once,
    version_writes_only_over_it,
    of_many_writers_one_wins,
    increments_by_version_lose_none,
    delete_takes_its_condition,
    a_recreated_item_has_another_version,
    list_is_ordered_and_bounded,
    list_keeps_to_partition_and_prefix,
    list_pages_over_large_items,
    expired_counts_as_absent,
    a_later_put_may_end_the_expiry,
    too_large_is_refused,
    a_crash_keeps_every_write,
];

/// Runs every law side by side; those that crash the world come last and alone.
pub async fn run(world: &dyn TestStores) {
    let (crashing, others): (Vec<Law>, Vec<Law>) = LAWS.iter().partition(|(name, _)| name.starts_with("a_crash"));
    join_all(others.iter().map(|(name, law)| named(name, law(world)))).await;
    for (name, law) in crashing {
        named(name, law(world)).await;
    }
}

async fn named(name: &str, law: Run<'_>) {
    law.await;
    println!("ok: {name}");
}

async fn absent_is_none(world: &dyn TestStores, name: &str) {
    let store = world.store();
    assert_eq!(store.get(&Key::new(name, "nothing")).await.expect("get"), None);
    assert_eq!(store.list(name, "", None, 10).await.expect("list"), []);
}

async fn what_is_put_is_got(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let every_byte: Bytes = (0..=255).collect::<Vec<u8>>().into();
    for (sort, value) in [("bytes", every_byte), ("empty", Bytes::new()), ("schlüssel/火 #1", Bytes::from_static(b"v"))]
    {
        let key = Key::new(name, sort);
        let expires = world.clock().now() + Duration::from_secs(3600);
        let version = put(&*store, &key, value.clone(), Expect::Absent, Some(expires)).await.expect("absent");
        let item = store.get(&key).await.expect("get").expect("is there");
        assert_eq!((&item.key, &item.value, item.version), (&key, &value, version));
        let off = item.expires.expect("expires").duration_since(expires).abs();
        assert!(off < jiff::SignedDuration::from_secs(1), "{off:?}");
    }
}

async fn any_always_writes(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let first = put(&*store, &key, "1", Expect::Any, None).await.expect("any");
    let second = put(&*store, &key, "2", Expect::Any, None).await.expect("any");
    assert_ne!(first, second);
    assert_eq!(value(&*store, &key).await.as_deref(), Some(&b"2"[..]));
}

async fn absent_writes_once(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    put(&*store, &key, "1", Expect::Absent, None).await.expect("absent");
    assert!(matches!(put(&*store, &key, "2", Expect::Absent, None).await, Err(PutError::Conflict)));
    assert_eq!(value(&*store, &key).await.as_deref(), Some(&b"1"[..]));
}

async fn version_writes_only_over_it(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let absent = put(&*store, &key, "0", Expect::Version(Version(7)), None).await;
    assert!(matches!(absent, Err(PutError::Conflict)), "{absent:?}");
    let first = put(&*store, &key, "1", Expect::Any, None).await.expect("any");
    let second = put(&*store, &key, "2", Expect::Version(first), None).await.expect("version");
    // The same bytes again are another version.
    let third = put(&*store, &key, "2", Expect::Version(second), None).await.expect("version");
    for stale in [first, second] {
        assert!(matches!(put(&*store, &key, "4", Expect::Version(stale), None).await, Err(PutError::Conflict)));
    }
    assert_eq!(store.get(&key).await.expect("get").map(|item| item.version), Some(third));
}

async fn of_many_writers_one_wins(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let mut expect = Expect::Absent;
    for round in 0..3 {
        let tries = (0..8).map(|writer| {
            let (store, key) = (store.clone(), &key);
            async move {
                put(&*store, key, format!("{round}/{writer}"), expect, None).await.map(|version| (writer, version))
            }
        });
        let won: Vec<_> = join_all(tries).await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(value(&*store, &key).await, Some(Bytes::from(format!("{round}/{}", won[0].0))));
        expect = Expect::Version(won[0].1);
    }
}

async fn increments_by_version_lose_none(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    put(&*store, &key, "0", Expect::Absent, None).await.expect("absent");
    let add = || async {
        for _ in 0..5 {
            loop {
                let item = store.get(&key).await.expect("get").expect("is there");
                let count: u32 = String::from_utf8_lossy(&item.value).parse().expect("a number");
                match put(&*store, &key, (count + 1).to_string(), Expect::Version(item.version), None).await {
                    Ok(_) => break,
                    Err(PutError::Conflict) => tokio::task::yield_now().await,
                    Err(e) => panic!("{e}"),
                }
            }
        }
    };
    join_all((0..4).map(|_| add())).await;
    assert_eq!(value(&*store, &key).await.as_deref(), Some(&b"20"[..]));
}

async fn delete_takes_its_condition(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    store.delete_if(&key, Expect::Any).await.expect("deleting nothing is not a conflict");
    store.delete_if(&key, Expect::Absent).await.expect("deleting nothing is not a conflict");
    assert!(matches!(store.delete_if(&key, Expect::Version(Version(1))).await, Err(PutError::Conflict)));
    let first = put(&*store, &key, "1", Expect::Any, None).await.expect("any");
    let second = put(&*store, &key, "2", Expect::Any, None).await.expect("any");
    assert!(matches!(store.delete_if(&key, Expect::Version(first)).await, Err(PutError::Conflict)));
    assert!(matches!(store.delete_if(&key, Expect::Absent).await, Err(PutError::Conflict)));
    assert_eq!(value(&*store, &key).await.as_deref(), Some(&b"2"[..]));
    store.delete_if(&key, Expect::Version(second)).await.expect("its version");
    assert_eq!(value(&*store, &key).await, None);
    put(&*store, &key, "3", Expect::Any, None).await.expect("any");
    store.delete_if(&key, Expect::Any).await.expect("any");
    assert_eq!(value(&*store, &key).await, None);
}

async fn a_recreated_item_has_another_version(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let first = put(&*store, &key, "1", Expect::Absent, None).await.expect("absent");
    store.delete_if(&key, Expect::Version(first)).await.expect("its version");
    let second = put(&*store, &key, "1", Expect::Absent, None).await.expect("absent");
    assert_ne!(first, second);
    assert!(matches!(put(&*store, &key, "2", Expect::Version(first), None).await, Err(PutError::Conflict)));
    assert!(matches!(store.delete_if(&key, Expect::Version(first)).await, Err(PutError::Conflict)));
}

async fn list_is_ordered_and_bounded(world: &dyn TestStores, name: &str) {
    let store = world.store();
    // Bytewise: digits before capitals before small letters before what is beyond ASCII.
    for sort in ["b", "a", "é", "B", "a/1", "a/10", "a/2", "0"] {
        put(&*store, &Key::new(name, sort), sort, Expect::Absent, None).await.expect("absent");
    }
    let all = sorts(store.list(name, "", None, 100).await.expect("list"));
    assert_eq!(all, ["0", "B", "a", "a/1", "a/10", "a/2", "b", "é"]);
    assert_eq!(sorts(store.list(name, "", None, 3).await.expect("list")), all[..3]);
    assert_eq!(sorts(store.list(name, "", Some("a"), 2).await.expect("list")), ["a/1", "a/10"]);
    assert_eq!(sorts(store.list(name, "", Some("a/11"), 2).await.expect("list")), ["a/2", "b"]);
    assert_eq!(store.list(name, "", Some("é"), 2).await.expect("list"), []);
    assert_eq!(store.list(name, "", None, 0).await.expect("list"), []);
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = sorts(store.list(name, "", after.as_deref(), 3).await.expect("list"));
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

async fn list_keeps_to_partition_and_prefix(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let (before, beyond) = (format!("{name}!"), format!("{name}~"));
    for (partition, sort) in [
        (&before[..], "p/1"),
        (name, "o/9"),
        (name, "p"),
        (name, "p/1"),
        (name, "p/2"),
        (name, "p0"),
        (name, "q"),
        (&beyond, "p/3"),
    ] {
        put(&*store, &Key::new(partition, sort), sort, Expect::Any, None).await.expect("any");
    }
    assert_eq!(sorts(store.list(name, "p/", None, 10).await.expect("list")), ["p/1", "p/2"]);
    assert_eq!(sorts(store.list(name, "p", None, 10).await.expect("list")), ["p", "p/1", "p/2", "p0"]);
    assert_eq!(sorts(store.list(name, "p/", Some("a"), 10).await.expect("list")), ["p/1", "p/2"]);
    assert_eq!(sorts(store.list(name, "p/", Some("p/1"), 10).await.expect("list")), ["p/2"]);
    assert_eq!(store.list(name, "p/", Some("q"), 10).await.expect("list"), []);
    assert_eq!(store.list(name, "zz", None, 10).await.expect("list"), []);
    assert_eq!(sorts(store.list(name, "", None, 10).await.expect("list")).len(), 6);
}

async fn list_pages_over_large_items(world: &dyn TestStores, name: &str) {
    let store = world.store();
    // More than the 1 MB that one page of DynamoDB holds.
    let large = Bytes::from(vec![7; 300 * 1024]);
    let names: Vec<String> = (0..7).map(|n| format!("{n}")).collect();
    for sort in &names {
        put(&*store, &Key::new(name, sort), large.clone(), Expect::Absent, None).await.expect("absent");
    }
    assert_eq!(sorts(store.list(name, "", None, 100).await.expect("list")), names);
    assert_eq!(sorts(store.list(name, "", None, 5).await.expect("list")), names[..5]);
}

async fn expired_counts_as_absent(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let soon = Some(world.clock().now() + LIFE);
    let names = ["get", "absent", "version", "delete", "delete-absent"];
    let mut versions = Vec::new();
    for sort in names {
        let key = Key::new(name, sort);
        versions.push(put(&*store, &key, sort, Expect::Absent, soon).await.expect("absent"));
        let again = put(&*store, &key, sort, Expect::Absent, soon).await;
        assert!(matches!(again, Err(PutError::Conflict)), "{sort} lives still: {again:?}");
    }
    // A write may sweep what has expired: these go first, so that it still meets those above.
    for n in 0..8 {
        put(&*store, &Key::new(name, n.to_string()), "swept", Expect::Absent, soon).await.expect("absent");
    }
    put(&*store, &Key::new(name, "stays"), "stays", Expect::Absent, None).await.expect("absent");
    sleep(LIFE + Duration::from_millis(50)).await;
    let key = |at: usize| Key::new(name, names[at]);
    assert_eq!(store.get(&key(0)).await.expect("get"), None);
    assert_eq!(sorts(store.list(name, "", None, 100).await.expect("list")), ["stays"]);
    assert_eq!(sorts(store.list(name, "", None, 1).await.expect("list")), ["stays"], "expired items fill no page");
    let stale = put(&*store, &key(2), "new", Expect::Version(versions[2]), None).await;
    assert!(matches!(stale, Err(PutError::Conflict)), "{stale:?}");
    let stale = store.delete_if(&key(3), Expect::Version(versions[3])).await;
    assert!(matches!(stale, Err(PutError::Conflict)), "{stale:?}");
    store.delete_if(&key(4), Expect::Absent).await.expect("an expired item is absent");
    put(&*store, &key(1), "new", Expect::Absent, None).await.expect("an expired item is absent");
    assert_eq!(sorts(store.list(name, "", None, 100).await.expect("list")), ["absent", "stays"]);
}

async fn a_later_put_may_end_the_expiry(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let soon = Some(world.clock().now() + LIFE);
    let version = put(&*store, &key, "1", Expect::Absent, soon).await.expect("absent");
    put(&*store, &key, "2", Expect::Version(version), None).await.expect("version");
    sleep(LIFE + Duration::from_millis(50)).await;
    // Other writes may sweep what has expired; this has not.
    for n in 0..3 {
        put(&*store, &Key::new(name, format!("other {n}")), "o", Expect::Any, None).await.expect("any");
    }
    let item = store.get(&key).await.expect("get").expect("is there");
    assert_eq!((&item.value[..], item.expires), (&b"2"[..], None));
}

async fn too_large_is_refused(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let key = Key::new(name, "k");
    let largest = Bytes::from(vec![1; VALUE_BYTES]);
    put(&*store, &key, largest.clone(), Expect::Absent, None).await.expect("the largest is taken");
    let refused = put(&*store, &key, vec![1; VALUE_BYTES + 1], Expect::Any, None).await;
    assert!(matches!(refused, Err(PutError::TooLarge(bytes)) if bytes == VALUE_BYTES + 1), "{refused:?}");
    assert!(value(&*store, &key).await == Some(largest));
}

async fn a_crash_keeps_every_write(world: &dyn TestStores, name: &str) {
    let store = world.store();
    let mut versions = Vec::new();
    for n in 0..5 {
        let key = Key::new(name, n.to_string());
        versions.push(put(&*store, &key, "old", Expect::Absent, None).await.expect("absent"));
    }
    versions[0] = put(&*store, &Key::new(name, "0"), "new", Expect::Version(versions[0]), None).await.expect("version");
    store.delete_if(&Key::new(name, "4"), Expect::Any).await.expect("any");
    drop(store);
    if !world.crash().await {
        println!("SKIPPED the rest of {name}: this store cannot be crashed");
        return;
    }
    let store = world.store();
    let items = store.list(name, "", None, 10).await.expect("list");
    let want = [("0", "new"), ("1", "old"), ("2", "old"), ("3", "old")];
    let got: Vec<(&str, &[u8])> = items.iter().map(|item| (item.key.sort.as_str(), &item.value[..])).collect();
    assert_eq!(got, want.map(|(sort, value)| (sort, value.as_bytes())));
    assert_eq!(items.iter().map(|item| item.version).collect::<Vec<_>>(), versions[..4]);
    let again = put(&*store, &Key::new(name, "4"), "again", Expect::Absent, None).await.expect("absent");
    assert!(!versions.contains(&again), "a version came twice");
}

async fn put(
    store: &dyn Store,
    key: &Key,
    value: impl Into<Bytes>,
    expect: Expect,
    expires: Option<jiff::Timestamp>,
) -> Result<Version, PutError> {
    store.put_if(key, value.into(), expect, expires).await
}

async fn value(store: &dyn Store, key: &Key) -> Option<Bytes> {
    store.get(key).await.expect("get").map(|item| item.value)
}

fn sorts(items: Vec<Item>) -> Vec<String> {
    items.into_iter().map(|item| item.key.sort).collect()
}
