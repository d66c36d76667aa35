//! control: what operators ask and decide, over the HTTP API.

use std::str::FromStr;

use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::control::audit;
use streammanager::control::connectors::{self, ControlError, Registration};
use streammanager::dead;
use streammanager::error::BackendError;
use streammanager::record::{ConnectorId, StreamId, Tier};
use streammanager::schedule::streams::{self, StreamsFile};
use streammanager::sink::Lane;

use crate::HandlerError;
use crate::events::{HttpRequest, HttpResponse};

/// Items of one answer.
const LISTED: usize = 1_000;

pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    let request: HttpRequest = serde_json::from_value(event)?;
    let response = answer(app, &request).await.unwrap_or_else(|problem| match problem {
        ControlError::Refused(text) => HttpResponse::error(422, "refused", text),
        ControlError::Unknown(what) => HttpResponse::error(404, "not_found", format!("there is no {what}")),
        ControlError::Backend(e) => HttpResponse::error(503, "unavailable", e).with_header("retry-after", "1"),
    });
    Ok(serde_json::to_value(response)?)
}

async fn answer(app: &App, request: &HttpRequest) -> Result<HttpResponse, ControlError> {
    let by = format!("operator at {}", request.request_context.http.source_ip);
    let path = request.raw_path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    match (request.request_context.http.method.as_str(), &parts[..]) {
        ("GET", ["status"]) => Ok(HttpResponse::json(200, &status(app).await?)),
        ("GET", ["connectors"]) => {
            let listed: Vec<Value> = connectors::list(app).await?.iter().map(shown).collect();
            Ok(HttpResponse::json(200, &json!({ "connectors": listed })))
        }
        ("POST", ["connectors"]) => {
            let registration: Registration = parse(request)?;
            let id = registration.id.clone();
            let key = connectors::register(app, registration, &by).await?;
            Ok(HttpResponse::json(201, &json!({ "id": id, "key": key.reveal() })))
        }
        ("POST", ["connectors", id, "rotate"]) => {
            let id: ConnectorId = named(id)?;
            let key = connectors::rotate(app, &id, &by).await?;
            Ok(HttpResponse::json(200, &json!({ "id": id, "key": key.reveal() })))
        }
        ("DELETE", ["connectors", id]) => {
            let id: ConnectorId = named(id)?;
            connectors::revoke(app, &id, &by).await?;
            Ok(HttpResponse::json(200, &json!({ "id": id, "revoked": true })))
        }
        ("GET", ["streams"]) => {
            let mut statuses = Vec::new();
            for registered in streams::list(app).await? {
                statuses.push(streams::status(app, &registered).await?);
            }
            Ok(HttpResponse::json(200, &json!({ "streams": statuses })))
        }
        ("PUT", ["streams"]) => {
            let file: StreamsFile = parse(request)?;
            file.check().map_err(ControlError::Refused)?;
            let prune = request.query_string_parameters.get("prune").is_some_and(|text| text == "true");
            Ok(HttpResponse::json(200, &streams::apply(app, &file, prune).await?))
        }
        ("GET", ["streams", id]) => {
            let id: StreamId = named(id)?;
            let registered = streams::get(app, &id).await?.ok_or(ControlError::Unknown(format!("stream {id}")))?;
            Ok(HttpResponse::json(200, &streams::status(app, &registered).await?))
        }
        ("POST", ["streams", id, action @ ("start" | "stop")]) => {
            let id: StreamId = named(id)?;
            if streams::set_started(app, &id, *action == "start", &by).await? {
                Ok(HttpResponse::json(200, &json!({ "id": id, "started": *action == "start" })))
            } else {
                Err(ControlError::Unknown(format!("stream {id}")))
            }
        }
        ("GET", ["dead-letters"]) => {
            let stream = request.query_string_parameters.get("stream").map(|id| named(id)).transpose()?;
            let letters = dead::list(app, stream.as_ref(), LISTED).await?;
            Ok(HttpResponse::json(200, &json!({ "dead_letters": letters })))
        }
        ("GET", ["audit"]) => {
            let entries = audit::list(app, app.clock.now(), LISTED).await?;
            Ok(HttpResponse::json(200, &json!({ "audit": entries })))
        }
        (method, _) => Ok(HttpResponse::error(404, "not_found", format!("{method} /{path} is no route of control"))),
    }
}

fn shown(connector: &connectors::Connector) -> Value {
    json!({
        "id": connector.registration.id,
        "tenant": connector.registration.tenant,
        "sources": connector.registration.sources,
        "critical": connector.registration.critical,
        "principal": connector.principal(),
        "revoked": connector.revoked,
        "key_changed_at": streammanager::time::rfc3339(connector.key_changed_at),
    })
}

fn parse<T: serde::de::DeserializeOwned>(request: &HttpRequest) -> Result<T, ControlError> {
    let body = request.body().map_err(|e| ControlError::Refused(format!("body: {e}")))?;
    serde_json::from_slice(&body).map_err(|e| ControlError::Refused(format!("body: {e}")))
}

fn named<T: FromStr>(text: &str) -> Result<T, ControlError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| ControlError::Refused(e.to_string()))
}

async fn status(app: &App) -> Result<Value, BackendError> {
    let mut queues = serde_json::Map::new();
    for tier in Tier::ALL {
        let depth = app.queue.depth(app.settings.queues.tier(tier)).await?;
        let depth = json!({ "visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed });
        queues.insert(tier.name().to_owned(), depth);
    }
    let breaker = |lane| app.breakers.lane(lane).state();
    let registered = streams::list(app).await?;
    Ok(json!({
        "stage": app.settings.stage,
        "producer_id": app.settings.producer_id,
        "queues": queues,
        "circuit_breaker": { "critical": breaker(Lane::Critical), "bulk": breaker(Lane::Bulk) },
        "streams": { "registered": registered.len(), "active": registered.iter().filter(|r| r.started).count() },
        "delivered_by_this_process": app.tally.totals(),
    }))
}
