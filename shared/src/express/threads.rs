//! Which thread an alert belongs to whose sender refers only to a later message of it [E4]. Every message that refers to
//! others leaves its root here; a first one is its own root and costs nothing.

use std::time::Duration;

use crate::app::App;
use crate::error::BackendError;
use crate::record::AlertFacts;
use crate::store::{Expect, Key};

const PARTITION: &str = "express/thread";
/// A root is found for as long as the topic keeps the messages.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Puts the alert into the thread of the message that it refers to. With the state store away it stays in that message's
/// own: order is best effort then, the alert goes out.
pub(super) async fn find_root(app: &App, alert: &mut AlertFacts) {
    if alert.references.is_empty() {
        return;
    }
    match app.store.get(&Key::new(PARTITION, &*alert.thread)).await {
        Ok(Some(item)) => match String::from_utf8(item.value.to_vec()) {
            Ok(root) => alert.thread = root,
            Err(e) => tracing::warn!(%e, thread = alert.thread, "a thread's root cannot be read"),
        },
        Ok(None) => {}
        Err(problem) => tracing::warn!(%problem, thread = alert.thread, "a thread's root cannot be looked up"),
    }
}

/// Later messages may refer to this one alone.
pub(super) async fn leave_root(app: &App, message: &str, root: &str) -> Result<(), BackendError> {
    if message == root {
        return Ok(());
    }
    let (key, expires) = (Key::new(PARTITION, message), app.clock.now() + KEPT);
    match app.store.put_if(&key, root.as_bytes().to_vec().into(), Expect::Any, Some(expires)).await {
        Ok(_) => Ok(()),
        Err(e) => Err(e.of("an alert's thread")),
    }
}
