//! One poll of a stream that nothing is taken from: what a person sees before the stream runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Connector, Cursor, Fetched};
use crate::decode::Context;
use crate::error::Reason;
use crate::limits::SLOW_RESPONSE;
use crate::record::SourceId;
use crate::time::{Clock, Timestamp};
use crate::upstream::Upstream;

/// What one poll found.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// Requests that were made.
    pub requests: usize,
    /// Records that would be judged by the seen-set.
    pub records: u64,
    /// Rows that would become dead letters, by their reason.
    pub rejects: BTreeMap<Reason, u64>,
    /// The newest observation of all.
    #[serde(serialize_with = "crate::time::serialize_optional")]
    pub newest: Option<Timestamp>,
    /// What went wrong, in the source's own words.
    pub problems: Vec<String>,
    /// More was to be asked for than a look asks.
    pub more: bool,
    /// From the first request to the last answer.
    pub elapsed_ms: u64,
    /// Where it ended.
    #[serde(skip)]
    pub cursor: Cursor,
}

impl Found {
    /// Whether the source gave what its stream wants.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty() && self.rejects.is_empty()
    }
}

/// Polls once from the beginning, with as many requests as a look may have, `apart` from each other where the service wants it.
pub async fn probe(
    connector: &dyn Connector,
    upstream: &dyn Upstream,
    source: &SourceId,
    apart: Option<Duration>,
    clock: &Clock,
) -> Found {
    let (mut found, began) = (Found::default(), Instant::now());
    loop {
        let cursor = found.cursor.clone();
        match look(connector, upstream, &cursor, apart, clock, &mut found).await {
            Err(problem) => found.problems.push(problem),
            Ok(None) => found.more = true,
            Ok(Some(fetched)) => {
                count(connector, source, &fetched, clock, &mut found);
                found.problems.extend(fetched.problem);
                found.cursor = fetched.cursor;
                if fetched.more && connector.rests(&found.cursor, clock.now()).is_none() {
                    found.more = found.requests >= connector.look();
                    if !found.more {
                        continue;
                    }
                }
            }
        }
        found.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        return found;
    }
}

/// `None`: no more is asked.
async fn look(
    connector: &dyn Connector,
    upstream: &dyn Upstream,
    cursor: &Cursor,
    apart: Option<Duration>,
    clock: &Clock,
    found: &mut Found,
) -> Result<Option<Fetched>, String> {
    let mut walk = connector.walk(cursor, clock.now());
    while found.requests < connector.look() {
        if let Some(apart) = apart.filter(|_| found.requests > 0) {
            tokio::time::sleep(apart).await;
        }
        found.requests += 1;
        let response = upstream.call(&walk.next(), SLOW_RESPONSE).await.map_err(|e| e.to_string())?;
        if let Some(fetched) = walk.absorb(response, clock.now()).map_err(|e| e.to_string())? {
            return Ok(Some(fetched));
        }
    }
    Ok(walk.cut().map_err(|e| e.to_string())?.filter(|fetched| fetched.body.is_some()))
}

fn count(connector: &dyn Connector, source: &SourceId, fetched: &Fetched, clock: &Clock, found: &mut Found) {
    let Some(body) = &fetched.body else { return };
    let context = Context { source, received_at: clock.now(), topic: None, message: None };
    let rows = match connector.rows(body, context) {
        Ok(rows) => rows,
        Err(reject) => return found.problems.push(reject.to_string()),
    };
    for row in rows {
        match row {
            Ok(draft) => {
                found.records += 1;
                found.newest = found.newest.max(Some(draft.observed_at));
            }
            Err(reject) => *found.rejects.entry(reject.reason).or_default() += 1,
        }
    }
}
