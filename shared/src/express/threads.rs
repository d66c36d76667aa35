//! Which thread an alert belongs to whose sender refers only to a later message of it [E4]. Every message that refers to
//! others leaves its root here; a first one is its own root and costs nothing. No alert waits for this longer than a hedge
//! does: without an answer order is best effort, and the alert goes out.

use tokio::time::timeout;

use super::marks::thread_hash;
use crate::app::App;
use crate::limits::{HEDGE, THREAD_KEPT};
use crate::record::{AlertFacts, SourceId};
use crate::store::{Expect, Key};

/// One sender's message names mean nothing under another source id.
fn key(source: &SourceId, message: &str) -> Key {
    Key::new("express/thread", format!("{source}/{}", thread_hash(message)))
}

/// Puts the alert into the thread of the message that it refers to. `false`: it could not be looked up.
pub(super) async fn find_root(app: &App, source: &SourceId, alert: &mut AlertFacts) -> bool {
    if alert.references.is_empty() {
        return true;
    }
    let key = key(source, &alert.thread);
    match timeout(HEDGE, app.store.get(&key)).await {
        Ok(Ok(Some(item))) => alert.thread = String::from_utf8_lossy(&item.value).into_owned(),
        Ok(Ok(None)) => {}
        Ok(Err(problem)) => {
            tracing::warn!(%problem, thread = alert.thread, "a thread's root cannot be looked up");
            return false;
        }
        Err(_) => {
            tracing::warn!(thread = alert.thread, "a thread's root was not found in time");
            return false;
        }
    }
    true
}

/// Later messages may refer to this one alone.
pub(super) async fn leave_root(app: &App, source: &SourceId, message: &str, root: &str) {
    if message == root {
        return;
    }
    let (key, expires) = (key(source, message), app.clock.now() + THREAD_KEPT);
    let put = app.store.put_if(&key, root.as_bytes().to_vec().into(), Expect::Any, Some(expires));
    match timeout(HEDGE, put).await {
        Ok(Ok(_)) => {}
        Ok(Err(problem)) => tracing::warn!(%problem, message, "later messages of this thread may get another key"),
        Err(_) => tracing::warn!(message, "a thread's root was not stored in time"),
    }
}
