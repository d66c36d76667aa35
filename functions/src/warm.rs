//! The call that changes nothing, of any function: it keeps an environment and its connections warm, and before a new version gets
//! any other call it shows that the version starts and reaches what it works with [D2].

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::error::BackendError;
use streammanager::store::Key;

/// What such a call's event holds.
pub const KEEP_WARM: &str = "keep_warm";

/// The answer, as whoever dispatches events to handlers gives it. `None`: the event is the handler's.
pub async fn answered(app: &App, event: &Value) -> Option<Value> {
    event.get(KEEP_WARM)?;
    let (backends, brokers) = tokio::join!(backends(app), brokers(app));
    if let Err(problem) = &backends {
        tracing::error!(%problem, "this function does not reach what it works with");
    }
    Some(json!({ "warm": backends.is_ok() && brokers }))
}

/// Over the very connection that an alert takes, which brokers close when it idles. Not every function has one.
async fn brokers(app: &App) -> bool {
    !app.sink.sends() || app.sink.answers().await
}

/// The state table, which every function reads, and the queue that those which send fall back on.
async fn backends(app: &App) -> Result<(), BackendError> {
    // Whatever is read is an answer, and whether the item is there is not asked.
    app.store.get(&Key::new("leases", "deliver/duty")).await?;
    if app.sink.sends() {
        app.queue.depth(&app.settings.queues.critical).await?;
    }
    Ok(())
}
