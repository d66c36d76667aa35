//! Rules of DynamoDB's items, on the embedded store and on endpoints that speak DynamoDB, through the same seam.

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use streammanager::store::{Expect, Key, PutError, Store, Version};

use super::case::{Case, Outcome, Unmet, cases, holds};

pub type Check = for<'a> fn(&'a dyn Store) -> BoxFuture<'a, Outcome>;

const CONDITIONS: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html";
const PUT: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html";
const GET: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_GetItem.html";
const DELETE: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_DeleteItem.html";
const QUERY: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html";
const CONSISTENCY: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html";
const LIMITS: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html";
const LOCKING: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/WorkingWithItems.html";

async fn put(store: &dyn Store, key: &Key, value: &str, expect: Expect) -> Result<Option<Version>, Unmet> {
    match store.put_if(key, Bytes::copy_from_slice(value.as_bytes()), expect, None).await {
        Ok(version) => Ok(Some(version)),
        Err(PutError::Conflict) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

async fn value(store: &dyn Store, key: &Key) -> Result<Option<String>, Unmet> {
    Ok(store.get(key).await?.map(|item| String::from_utf8_lossy(&item.value).into_owned()))
}

async fn sorts(
    store: &dyn Store,
    partition: &str,
    prefix: &str,
    after: Option<&str>,
    max: usize,
) -> Result<Vec<String>, Unmet> {
    Ok(store.list(partition, prefix, after, max).await?.into_iter().map(|item| item.key.sort).collect())
}

pub const CASES: &[Case<Check>] = cases![
    "dynamodb/put-get", PUT, "An item that was put is read with the attributes that it was given.", |store| {
        let key = Key::new("put-get", "a");
        put(store, &key, "1", Expect::Any).await?;
        holds!(value(store, &key).await?, Some("1".to_owned()));
    }
    "dynamodb/absent", GET, "A read of a key that has no item returns none.", |store| {
        holds!(value(store, &Key::new("absent", "a")).await?, None);
    }
    "dynamodb/put-replaces", PUT, "A put under a key that has an item replaces the whole item.", |store| {
        let key = Key::new("put-replaces", "a");
        put(store, &key, "1", Expect::Any).await?;
        put(store, &key, "2", Expect::Any).await?;
        holds!(value(store, &key).await?, Some("2".to_owned()));
    }
    "dynamodb/consistent-read", CONSISTENCY, "A strongly consistent read reflects every write that succeeded before it.", |store| {
        let key = Key::new("consistent", "a");
        for n in 0..20 {
            put(store, &key, &n.to_string(), Expect::Any).await?;
            holds!(value(store, &key).await?, Some(n.to_string()));
        }
    }
    "dynamodb/not-exists-holds", CONDITIONS, "attribute_not_exists on the key lets a put of a new item through.", |store| {
        holds!(put(store, &Key::new("not-exists", "new"), "1", Expect::Absent).await?.is_some());
    }
    "dynamodb/not-exists-fails", CONDITIONS, "attribute_not_exists on the key refuses a put over an item, which stays as it is.", |store| {
        let key = Key::new("not-exists", "there");
        put(store, &key, "1", Expect::Any).await?;
        holds!(put(store, &key, "2", Expect::Absent).await?, None);
        holds!(value(store, &key).await?, Some("1".to_owned()));
    }
    "dynamodb/equal-holds", CONDITIONS, "A condition on an attribute's value lets a put through while the value is that.", |store| {
        let key = Key::new("equal", "holds");
        let first = put(store, &key, "1", Expect::Any).await?.ok_or("not put")?;
        holds!(put(store, &key, "2", Expect::Version(first)).await?.is_some());
    }
    "dynamodb/equal-fails", CONDITIONS, "A condition on an attribute's value refuses a put when the value has changed.", |store| {
        let key = Key::new("equal", "fails");
        let first = put(store, &key, "1", Expect::Any).await?.ok_or("not put")?;
        put(store, &key, "2", Expect::Any).await?;
        holds!(put(store, &key, "3", Expect::Version(first)).await?, None);
        holds!(value(store, &key).await?, Some("2".to_owned()));
    }
    "dynamodb/equal-absent", CONDITIONS, "A condition on an attribute's value does not hold for an item that does not exist.", |store| {
        let key = Key::new("equal", "absent");
        holds!(put(store, &key, "1", Expect::Version(Version(1))).await?, None);
        holds!(value(store, &key).await?, None);
    }
    "dynamodb/one-winner", LOCKING, "Of concurrent puts on the same condition one succeeds.", |store| {
        let key = Key::new("one-winner", "a");
        let tries = (0..8).map(|n| {
            let key = key.clone();
            async move { put(store, &key, &n.to_string(), Expect::Absent).await }
        });
        let won = join_all(tries).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        holds!(won.iter().flatten().count(), 1);
    }
    "dynamodb/delete", DELETE, "A deleted item is not there.", |store| {
        let key = Key::new("delete", "a");
        put(store, &key, "1", Expect::Any).await?;
        store.delete_if(&key, Expect::Any).await?;
        holds!(value(store, &key).await?, None);
    }
    "dynamodb/delete-again", DELETE, "Deleting what is not there is no error.", |store| {
        store.delete_if(&Key::new("delete", "never"), Expect::Any).await?;
    }
    "dynamodb/delete-condition", DELETE, "A deletion whose condition does not hold deletes nothing.", |store| {
        let key = Key::new("delete", "condition");
        let first = put(store, &key, "1", Expect::Any).await?.ok_or("not put")?;
        put(store, &key, "2", Expect::Any).await?;
        holds!(matches!(store.delete_if(&key, Expect::Version(first)).await, Err(PutError::Conflict)));
        holds!(value(store, &key).await?, Some("2".to_owned()));
    }
    "dynamodb/query-order", QUERY, "A query returns a partition's items in the order of their sort keys, by the bytes of UTF-8.", |store| {
        for sort in ["b", "a", "é", "Z", "aa", "10", "9"] {
            put(store, &Key::new("query-order", sort), "1", Expect::Any).await?;
        }
        holds!(sorts(store, "query-order", "", None, 100).await?, ["10", "9", "Z", "a", "aa", "b", "é"]);
    }
    "dynamodb/query-partition", QUERY, "A query returns items of one partition key.", |store| {
        put(store, &Key::new("query-partition", "a"), "1", Expect::Any).await?;
        put(store, &Key::new("query-partition-2", "b"), "1", Expect::Any).await?;
        holds!(sorts(store, "query-partition", "", None, 100).await?, ["a"]);
    }
    "dynamodb/query-begins-with", QUERY, "begins_with selects the sort keys that begin with a text.", |store| {
        for sort in ["a#1", "a#2", "b#1", "a"] {
            put(store, &Key::new("query-begins", sort), "1", Expect::Any).await?;
        }
        holds!(sorts(store, "query-begins", "a#", None, 100).await?, ["a#1", "a#2"]);
    }
    "dynamodb/query-limit", QUERY, "Limit bounds the number of items of an answer.", |store| {
        for sort in ["1", "2", "3"] {
            put(store, &Key::new("query-limit", sort), "1", Expect::Any).await?;
        }
        holds!(sorts(store, "query-limit", "", None, 2).await?, ["1", "2"]);
    }
    "dynamodb/query-start", QUERY, "ExclusiveStartKey goes on behind that key.", |store| {
        for sort in ["1", "2", "3"] {
            put(store, &Key::new("query-start", sort), "1", Expect::Any).await?;
        }
        holds!(sorts(store, "query-start", "", Some("1"), 100).await?, ["2", "3"]);
    }
    "dynamodb/query-over-1-mb", QUERY, "A query whose items have more than 1 MB can be read to its end, page by page.", |store| {
        let large = "x".repeat(300 * 1024);
        for sort in ["1", "2", "3", "4", "5"] {
            put(store, &Key::new("query-pages", sort), &large, Expect::Any).await?;
        }
        holds!(sorts(store, "query-pages", "", None, 100).await?, ["1", "2", "3", "4", "5"]);
    }
    "dynamodb/large-item", LIMITS, "An item of nearly 400 KB is taken.", |store| {
        let key = Key::new("large-item", "a");
        put(store, &key, &"x".repeat(370 * 1024), Expect::Any).await?;
        holds!(value(store, &key).await?.map(|value| value.len()), Some(370 * 1024));
    }
    "dynamodb/too-large", LIMITS, "An item of more than 400 KB is refused.", |store| {
        let key = Key::new("too-large", "a");
        let put = store.put_if(&key, Bytes::from(vec![b'x'; 410 * 1024]), Expect::Any, None).await;
        holds!(put.is_err());
        holds!(value(store, &key).await?, None);
    }
];
