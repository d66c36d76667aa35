//! What the tests' senders send.

use serde_json::json;

/// An alert of the published schema. `references` name earlier messages of its thread by their ids.
pub fn alert(id: &str, status: &str, msg_type: &str, references: &[&str]) -> String {
    let references: Vec<String> =
        references.iter().map(|id| format!("test@example.org,{id},2026-09-01T12:00:00-07:00")).collect();
    json!({
        "id": id, "sender": "test@example.org", "sent": "2026-09-01T12:00:00-07:00", "status": status,
        "msgType": msg_type, "event": "Evacuation Immediate", "references": references,
        "area": { "description": "Test Canyon", "polygon": [[38.3, -120.9], [38.3, -120.8], [38.4, -120.8], [38.3, -120.9]] },
    })
    .to_string()
}

/// An alert that means it, the first of its thread.
pub fn actual(id: &str) -> String {
    alert(id, "Actual", "Alert", &[])
}
