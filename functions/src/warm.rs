//! The call that changes nothing, of any function: it keeps an environment and its connections warm, and before a new version gets
//! any other call it shows that the version starts, that is, that its secrets and its brokers are found [D2].

use serde_json::{Value, json};
use streammanager::app::App;

/// What such a call's event holds.
pub const KEEP_WARM: &str = "keep_warm";

/// The answer, as whoever dispatches events to handlers gives it. `None`: the event is the handler's.
pub async fn answered(app: &App, event: &Value) -> Option<Value> {
    event.get(KEEP_WARM)?;
    // Over the very connection that an alert takes, which brokers close when it idles. Not every function has one.
    let warm = !app.sink.sends() || app.sink.answers().await;
    Some(json!({ "warm": warm }))
}
