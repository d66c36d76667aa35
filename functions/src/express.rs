//! express: alerts over `POST /alerts`, over MQTT by the alerts rule, and again from the express-retry queue.

use bytes::Bytes;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::control::caller;
use streammanager::dead::{self, Rejected};
use streammanager::error::{BackendError, Reason, Reject, Sender};
use streammanager::express::admit::{keeps_pace, refuse_stranger};
use streammanager::express::{Accepted, Incoming, Refusal, Verdict, Why, express};
use streammanager::record::SourceId;
use streammanager::time::Timestamp;

use crate::HandlerError;
use crate::confirm::Confirmation;
use crate::events::{BatchResponse, HttpRequest, HttpResponse, RuleError, RuleOutput, SqsEvent};
use crate::warm::KEEP_WARM;

/// Seconds a refused sender waits.
const RETRY_AFTER: &str = "1";

/// What goes back to the trigger, and what the caller then publishes to the senders that came over MQTT.
#[derive(Debug)]
pub struct Answer {
    /// To HTTP an HTTP answer, to a rule `{"accepted": […], "rejected": […]}`, to a queue its failed items.
    pub response: Value,
    /// What senders over MQTT are told; the caller publishes it.
    pub confirmations: Vec<Confirmation>,
}

/// One event of any of the three triggers.
pub async fn handle(app: &App, event: Value) -> Result<Answer, HandlerError> {
    if event.get("requestContext").is_some() {
        let response = serde_json::to_value(over_http(app, serde_json::from_value(event)?).await)?;
        return Ok(Answer { response, confirmations: Vec::new() });
    }
    if event.get("Records").is_some() {
        let (response, confirmations) = retried(app, serde_json::from_value(event)?).await;
        return Ok(Answer { response: serde_json::to_value(response)?, confirmations });
    }
    let told = over_mqtt(app, serde_json::from_value(event)?).await?;
    Ok(Answer {
        response: json!({ "accepted": told.accepted, "rejected": told.rejected }),
        confirmations: told.confirmations,
    })
}

/// What became of one publish.
#[derive(Default)]
struct Told {
    accepted: Vec<Accepted>,
    rejected: Vec<Value>,
    confirmations: Vec<Confirmation>,
}

fn listed(rejected: &[Reject]) -> Vec<Value> {
    rejected.iter().map(|r| json!({ "error": r.reason, "detail": r.detail, "row": r.row })).collect()
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
    let caller = match caller::by_key(app, key).await {
        Ok(caller) => caller,
        Err(problem) => return unavailable(&[], &problem),
    };
    if !keeps_pace(app, &caller).await {
        let detail = "you send faster than one sender may; send it again in a second";
        return HttpResponse::error(429, "too_many_requests", detail).with_header("retry-after", RETRY_AFTER);
    }
    let received_at = app.clock.now();
    match express(
        app,
        Incoming { caller: &caller, source: source.as_ref(), body, received_at, sender: None, lineage: None },
    )
    .await
    {
        Verdict::Taken { accepted, rejected, .. } => {
            let status = if rejected.is_empty() { 200 } else { 422 };
            HttpResponse::json(status, &json!({ "accepted": accepted, "rejected": listed(&rejected) }))
        }
        Verdict::Refused(Refusal { why, reject, .. }) => {
            let status = match why {
                Why::Unknown => 401,
                Why::NotGranted => 403,
                Why::NotData if reject.reason == Reason::TooLarge => 413,
                Why::NotData => 422,
            };
            HttpResponse::error(status, reject.reason.code(), reject.detail)
        }
        Verdict::Full { accepted, why } => {
            let body = json!({ "error": "too_many_requests", "detail": why.to_string(), "accepted": accepted });
            HttpResponse::json(429, &body).with_header("retry-after", RETRY_AFTER)
        }
        Verdict::Unavailable { accepted, problem } => unavailable(&accepted, &problem),
    }
}

/// The answer to a request that is to be sent again; `accepted`: what was taken of it all the same.
pub fn unavailable(accepted: &[Accepted], problem: &BackendError) -> HttpResponse {
    tracing::error!(%problem, "an alert could not be taken");
    let body = json!({ "error": "unavailable", "detail": problem.to_string(), "accepted": accepted });
    HttpResponse::json(503, &body).with_header("retry-after", RETRY_AFTER)
}

/// An `Err` makes AWS try again and then hand the event to the express-retry queue.
async fn over_mqtt(app: &App, message: RuleOutput) -> Result<Told, HandlerError> {
    let message = RuleOutput { topic: own_topic(app, &message.topic)?, ..message };
    let (payload, sender) = (message.payload(), message.sender());
    let Some((source, body)) = readable(app, &sender, payload, message.payload).await? else {
        return Ok(Told::default());
    };
    let received_at =
        message.received_at.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(app.clock.now());
    let caller = caller::by_principal(app, message.principal.as_deref().unwrap_or_default()).await?;
    match express(
        app,
        Incoming { caller: &caller, source: Some(&source), body, received_at, sender: Some(&sender), lineage: None },
    )
    .await
    {
        Verdict::Taken { connector, accepted, rejected } => {
            let refused = rejected.iter().map(|reject| Confirmation::refused(&connector, Some(&source), reject));
            let confirmations = accepted.iter().map(Confirmation::accepted).chain(refused).collect();
            Ok(Told { rejected: listed(&rejected), accepted, confirmations })
        }
        // Audited, and kept in the dead letters: trying again would not help.
        Verdict::Refused(Refusal { connector, reject, .. }) => {
            let refused = connector.map(|connector| Confirmation::refused(&connector, Some(&source), &reject));
            Ok(Told { rejected: listed(&[reject]), confirmations: refused.into_iter().collect(), ..Told::default() })
        }
        Verdict::Full { why, .. } => Err(BackendError::Retry(why.to_string()).into()),
        Verdict::Unavailable { problem, .. } => Err(problem.into()),
    }
}

/// What was accepted is to be confirmed although another message of the batch comes again.
async fn retried(app: &App, event: SqsEvent) -> (BatchResponse, Vec<Confirmation>) {
    let (mut response, mut confirmations) = (BatchResponse::default(), Vec::new());
    for message in event.records {
        match taken_again(app, &message.body).await {
            Ok(told) => confirmations.extend(told),
            Err(problem) => {
                tracing::warn!(%problem, message = message.message_id, "an alert is tried again later");
                response.fail(message.message_id);
            }
        }
    }
    (response, confirmations)
}

async fn taken_again(app: &App, body: &str) -> Result<Vec<Confirmation>, HandlerError> {
    match serde_json::from_str(body).ok().and_then(original) {
        Some(Original::Alert(output)) => Ok(over_mqtt(app, output).await?.confirmations),
        Some(Original::Unproved(error)) => {
            let topic = own_topic(app, &error.topic)?;
            unproved(app, RuleError { topic, ..error }).await?;
            Ok(Vec::new())
        }
        // The next one comes within the minute.
        Some(Original::KeepWarm) => Ok(Vec::new()),
        None => Err(HandlerError::UnknownEvent("a message of the express-retry queue holds no alert".into())),
    }
}

/// The topic as it is called within this stage. Only a wrong rule hands over another stage's, and it rings no siren here.
fn own_topic(app: &App, topic: &str) -> Result<String, HandlerError> {
    let prefix = &app.settings.mqtt_prefix;
    let own = topic.strip_prefix(prefix.as_str());
    own.map(str::to_owned)
        .ok_or_else(|| HandlerError::UnknownEvent(format!("topic {topic:?} is not of this stage: it lacks {prefix:?}")))
}

/// What a message of the express-retry queue was before.
enum Original {
    /// The rule's output, in the wrapping of the function's on-failure destination.
    Alert(RuleOutput),
    Unproved(RuleError),
    /// No alert at all.
    KeepWarm,
}

fn original(body: Value) -> Option<Original> {
    if body.get("base64OriginalPayload").is_some() {
        return serde_json::from_value(body).ok().map(Original::Unproved);
    }
    let payload = body.get("requestPayload")?;
    if payload.get(KEEP_WARM).is_some() {
        return Some(Original::KeepWarm);
    }
    serde_json::from_value(payload.clone()).ok().map(Original::Alert)
}

/// AWS's message of a rule's error action names no principal, and a client's id proves nothing: nobody may ring the siren
/// with it [A2]. Its bytes stay for an operator; the sender, without a confirmation, sends again.
async fn unproved(app: &App, error: RuleError) -> Result<(), HandlerError> {
    let (payload, sender) = (error.payload(), error.sender());
    let Some((source, body)) = readable(app, &sender, payload, error.base64_original_payload).await? else {
        return Ok(());
    };
    let detail = "it came by the rule's error action, which names no principal";
    let reject = Reject::new(Reason::UnauthorisedSource, detail).sent_by(&sender);
    let kept = dead::bury_unadmitted(app, None, Rejected::new(source.clone(), reject, &body)).await?;
    tracing::error!(%source, client = error.client_id, detail, "an alert is not published: {kept}");
    let actor = format!("client {}", error.client_id.as_deref().unwrap_or_default());
    Ok(refuse_stranger(app, &actor, source.as_str(), detail).await?)
}

/// Source and body of a publish. `None`: it can be read only as bytes, on every further try too, and is kept as such. Only a
/// wrong rule hands over what is not below `alerts/`: that is no sender's fault.
async fn readable(
    app: &App,
    sender: &Sender,
    payload: Result<Bytes, base64::DecodeError>,
    encoded: String,
) -> Result<Option<(SourceId, Bytes)>, HandlerError> {
    let topic = &sender.topic;
    let Some(id) = topic.strip_prefix("alerts/") else {
        return Err(HandlerError::UnknownEvent(format!("topic {topic:?} is not alerts/{{source_id}}")));
    };
    let (raw, detail) = match (SourceId::new(id), payload) {
        (Ok(source), Ok(body)) => return Ok(Some((source, body))),
        (Err(e), Ok(body)) => (body, format!("topic {topic:?}: {e}")),
        (_, Err(e)) => (encoded.into(), format!("payload: {e}")),
    };
    let kept = dead::bury_stray(app, raw, Reject::new(Reason::NotData, detail.clone()), sender).await?;
    tracing::error!(detail, "an alert cannot be read: {kept}");
    Ok(None)
}
