//! express: alerts over `POST /alerts`, over MQTT by the alerts rule, and again from the express-retry queue.

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::error::BackendError;
use streammanager::express::admit::{NotAdmitted, Proof};
use streammanager::express::{Accepted, Incoming, Verdict, express};
use streammanager::record::SourceId;
use streammanager::time::Timestamp;

use crate::HandlerError;
use crate::events::{BatchResponse, HttpRequest, HttpResponse, RuleOutput, SqsEvent};

/// Seconds a refused sender waits.
const RETRY_AFTER: &str = "1";

/// HTTP gives an HTTP answer, a rule's message `{"accepted": […]}` for the confirmations, a queue its failed items.
pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    if event.get("requestContext").is_some() {
        return Ok(serde_json::to_value(over_http(app, serde_json::from_value(event)?).await)?);
    }
    if event.get("Records").is_some() {
        return Ok(serde_json::to_value(retried(app, serde_json::from_value(event)?).await)?);
    }
    let accepted = over_mqtt(app, serde_json::from_value(event)?).await?;
    Ok(json!({ "accepted": accepted }))
}

async fn over_http(app: &App, request: HttpRequest) -> HttpResponse {
    let body = match request.body() {
        Ok(body) => body,
        Err(e) => return HttpResponse::error(400, "bad_body", e),
    };
    let Some(key) = request.key() else {
        return HttpResponse::error(
            401,
            "unauthorised_source",
            "send the connector's key as Authorization: Bearer KEY",
        );
    };
    let source = match request.query_string_parameters.get("source").map(|text| SourceId::new(text)).transpose() {
        Ok(source) => source,
        Err(e) => return HttpResponse::error(400, "bad_source", e),
    };
    let received_at = app.clock.now();
    match express(app, Incoming { proof: Proof::Key(key), source: source.as_ref(), body, received_at }).await {
        Verdict::Taken { accepted, rejected } => {
            let status = if rejected.is_empty() { 200 } else { 422 };
            let rejected: Vec<Value> =
                rejected.iter().map(|r| json!({ "error": r.reason, "detail": r.detail, "row": r.row })).collect();
            HttpResponse::json(status, &json!({ "accepted": accepted, "rejected": rejected }))
        }
        Verdict::NotAdmitted(NotAdmitted::Unknown(reject)) => {
            HttpResponse::error(401, reject.reason.code(), reject.detail)
        }
        Verdict::NotAdmitted(NotAdmitted::NotGranted(reject)) => {
            HttpResponse::error(403, reject.reason.code(), reject.detail)
        }
        Verdict::NotAdmitted(NotAdmitted::Backend(problem)) => unavailable(&[], &problem),
        Verdict::NotData(reject) if reject.reason == streammanager::error::Reason::TooLarge => {
            HttpResponse::error(413, reject.reason.code(), reject.detail)
        }
        Verdict::NotData(reject) => HttpResponse::error(422, reject.reason.code(), reject.detail),
        Verdict::Unavailable { accepted, problem } => unavailable(&accepted, &problem),
    }
}

fn unavailable(accepted: &[Accepted], problem: &BackendError) -> HttpResponse {
    tracing::error!(%problem, "an alert could not be taken");
    let body = json!({ "error": "unavailable", "detail": problem.to_string(), "accepted": accepted });
    HttpResponse::json(503, &body).with_header("retry-after", RETRY_AFTER)
}

/// An `Err` makes AWS try again and then hand the event to the express-retry queue.
async fn over_mqtt(app: &App, message: RuleOutput) -> Result<Vec<Accepted>, HandlerError> {
    let Some(source) = message.topic.strip_prefix("alerts/").and_then(|id| SourceId::new(id).ok()) else {
        return Err(HandlerError::UnknownEvent(format!("topic {:?} is not alerts/{{source_id}}", message.topic)));
    };
    let body = message.payload().map_err(|e| HandlerError::UnknownEvent(format!("payload: {e}")))?;
    let received_at =
        message.received_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(app.clock.now());
    let proof = Proof::Principal(message.principal.as_deref().unwrap_or_default());
    match express(app, Incoming { proof, source: Some(&source), body, received_at }).await {
        Verdict::Taken { accepted, .. } => Ok(accepted),
        // Refused and audited, or kept in the dead letters: trying again would not help.
        Verdict::NotAdmitted(NotAdmitted::Unknown(_) | NotAdmitted::NotGranted(_)) | Verdict::NotData(_) => {
            Ok(Vec::new())
        }
        Verdict::NotAdmitted(NotAdmitted::Backend(problem)) | Verdict::Unavailable { problem, .. } => {
            Err(problem.into())
        }
    }
}

/// The rule's error action and the on-failure destination both keep the rule's output, bare or in their own wrapping.
async fn retried(app: &App, event: SqsEvent) -> BatchResponse {
    let mut response = BatchResponse::default();
    for message in event.records {
        match serde_json::from_str(&message.body).ok().and_then(original) {
            Some(output) => {
                if let Err(problem) = over_mqtt(app, output).await {
                    tracing::warn!(%problem, message = message.message_id, "an alert is tried again later");
                    response.fail(message.message_id);
                }
            }
            None => {
                tracing::error!(message = message.message_id, "a message of the express-retry queue holds no alert");
                response.fail(message.message_id);
            }
        }
    }
    response
}

fn original(body: Value) -> Option<RuleOutput> {
    let inner = body.get("requestPayload").cloned().unwrap_or(body);
    serde_json::from_value(inner).ok()
}
