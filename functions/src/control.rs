//! control: what operators ask and decide, over the HTTP API. Every route is one line of `ROUTES`; the API in front of it has
//! matched the path and found out who asks.

mod trace;

use std::pin::Pin;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use streammanager::app::App;
use streammanager::breaker::shared;
use streammanager::control::audit;
use streammanager::control::caller::Caller;
use streammanager::control::connector::{Connector, Registration};
use streammanager::control::connectors::{self, ControlError};
use streammanager::dead::{self, Purge, Redrive, Selection, queues};
use streammanager::deliver::{lag, report};
use streammanager::error::Reason;
use streammanager::limits::GIVEN_UP_PAGE;
use streammanager::record::{ConnectorId, EventId, StreamId, Tier};
use streammanager::schedule::file::{Interval, StreamsFile};
use streammanager::schedule::{mappings, mqtt, streams};
use streammanager::schemas;
use streammanager::store::Store;
use streammanager::time::{Timestamp, rfc3339};

use crate::events::{HttpRequest, HttpResponse};
use crate::{HandlerError, ready, watch};

/// Items of one answer.
const LISTED: usize = 1_000;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Whoever signs the request with AWS IAM; on a host whoever shows its control key.
    Operator,
    /// Anybody: what a record means is for whoever reads it.
    Public,
}

/// One operation of the control API. The template names the same routes, each with the same `Auth`.
pub struct Route {
    /// In upper case.
    pub method: &'static str,
    /// As in the template, such as `/streams/{id}`.
    pub path: &'static str,
    /// Who may call it.
    pub auth: Auth,
    handler: Handler,
}

type Answer = Result<HttpResponse, ControlError>;
type Handler = for<'a> fn(Asked<'a>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Every operator route.
pub static ROUTES: [Route; 23] = [
    operators("GET", "/status", |asked| Box::pin(status(asked))),
    operators("GET", "/health/ready", |asked| Box::pin(read_readiness(asked))),
    operators("GET", "/metrics", |asked| Box::pin(read_metrics(asked))),
    operators("GET", "/connectors", |asked| Box::pin(list_connectors(asked))),
    operators("POST", "/connectors", |asked| Box::pin(register_connector(asked))),
    operators("POST", "/connectors/{id}/rotate", |asked| Box::pin(rotate_key(asked))),
    operators("DELETE", "/connectors/{id}", |asked| Box::pin(revoke_connector(asked))),
    operators("GET", "/streams", |asked| Box::pin(list_streams(asked))),
    operators("PUT", "/streams", |asked| Box::pin(apply_streams(asked))),
    operators("GET", "/streams/{id}", |asked| Box::pin(read_stream(asked))),
    operators("POST", "/streams/{id}/start", |asked| Box::pin(set_started(asked, true))),
    operators("POST", "/streams/{id}/stop", |asked| Box::pin(set_started(asked, false))),
    operators("GET", "/dead-letters", |asked| Box::pin(list_dead_letters(asked))),
    operators("GET", "/dead-letters/patterns", |asked| Box::pin(explain_dead_letters(asked))),
    operators("GET", "/dead-letters/queues", |asked| Box::pin(list_given_up(asked))),
    operators("GET", "/dead-letters/queues/{id}", |asked| Box::pin(show_given_up(asked))),
    operators("POST", "/dead-letters/queues/{id}/redrive", |asked| Box::pin(redrive_given_up(asked))),
    operators("GET", "/dead-letters/{id}", |asked| Box::pin(read_dead_letter(asked))),
    operators("POST", "/dead-letters/redrive", |asked| Box::pin(redrive_dead_letters(asked))),
    operators("POST", "/dead-letters/purge", |asked| Box::pin(purge_dead_letters(asked))),
    operators("GET", "/trace", |asked| Box::pin(trace::trace(asked))),
    operators("GET", "/audit", |asked| Box::pin(read_audit(asked))),
    Route { method: "GET", path: "/schemas/{name}", auth: Auth::Public, handler: |asked| Box::pin(read_schema(asked)) },
];

const fn operators(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route { method, path, auth: Auth::Operator, handler }
}

/// One request and who makes it.
struct Asked<'a> {
    app: &'a App,
    request: &'a HttpRequest,
    caller: &'a Caller,
}

impl Asked<'_> {
    fn store(&self) -> &dyn Store {
        &*self.app.store
    }

    /// Whom an audit entry names.
    fn by(&self) -> String {
        format!("{} at {}", self.caller.proof(), self.request.request_context.http.source_ip)
    }

    /// The `{id}` of the route's path.
    fn id<T: FromStr>(&self) -> Result<T, ControlError>
    where
        T::Err: std::fmt::Display,
    {
        named(self.request.path_parameters.get("id").map(String::as_str).unwrap_or_default())
    }

    fn body<T: serde::de::DeserializeOwned>(&self) -> Result<T, ControlError> {
        let body = self.request.body().map_err(|e| ControlError::Refused(format!("body: {e}")))?;
        serde_json::from_slice(&body).map_err(|e| ControlError::Refused(format!("body: {e}")))
    }

    /// How many items the answer may list.
    fn max(&self) -> Result<usize, ControlError> {
        match self.query("max").map(|text| (text, text.parse::<usize>())) {
            None => Ok(LISTED),
            Some((_, Ok(max))) if (1..=LISTED).contains(&max) => Ok(max),
            Some((text, _)) => Err(ControlError::Refused(format!("max {text:?} is not in 1..{LISTED}"))),
        }
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.request.query_string_parameters.get(name).map(String::as_str)
    }
}

/// Answers one request of the HTTP API.
///
/// # Errors
/// For an event that is not one of the API's.
pub async fn handle(app: &App, event: Value) -> Result<Value, HandlerError> {
    let request: HttpRequest = serde_json::from_value(event)?;
    let response = answer(app, &request).await.unwrap_or_else(|problem| match problem {
        ControlError::Refused(text) => HttpResponse::error(422, "refused", text),
        ControlError::Unknown(what) => HttpResponse::error(404, "not_found", format!("there is no {what}")),
        ControlError::Backend(e) => HttpResponse::error(503, "unavailable", e).with_header("retry-after", "1"),
    });
    Ok(serde_json::to_value(response)?)
}

async fn answer(app: &App, request: &HttpRequest) -> Answer {
    let matches = |route: &&Route| request.route_key.split_once(' ') == Some((route.method, route.path));
    let Some(route) = ROUTES.iter().find(matches) else {
        let detail = format!("{:?} is not a route of the control API", request.route_key);
        return Ok(HttpResponse::error(404, "not_found", detail));
    };
    let caller = match (route.auth, request.signed_by()) {
        (Auth::Operator, Some(identity)) => Caller::operator(identity),
        (Auth::Public, _) => Caller::anybody(),
        (Auth::Operator, None) => {
            let detail = "this route answers signed requests only";
            return Ok(HttpResponse::error(403, "forbidden", detail));
        }
    };
    (route.handler)(Asked { app, request, caller: &caller }).await
}

async fn read_schema(asked: Asked<'_>) -> Answer {
    let name = asked.request.path_parameters.get("name").map(String::as_str).unwrap_or_default();
    let schema = schemas::named(name).ok_or_else(|| ControlError::Unknown(format!("schema {name}")))?;
    Ok(HttpResponse::json(200, &schema).with_header("content-type", "application/schema+json"))
}

async fn list_connectors(asked: Asked<'_>) -> Answer {
    let listed: Vec<Value> = connectors::list(asked.store()).await?.iter().map(shown).collect();
    Ok(HttpResponse::json(200, &json!({ "connectors": listed })))
}

async fn register_connector(asked: Asked<'_>) -> Answer {
    let registration: Registration = asked.body()?;
    let id = registration.id.clone();
    let key = connectors::register(asked.app, registration, &asked.by()).await?;
    Ok(HttpResponse::json(201, &json!({ "id": id, "key": key.reveal() })))
}

async fn rotate_key(asked: Asked<'_>) -> Answer {
    let id: ConnectorId = asked.id()?;
    let key = connectors::rotate(asked.app, &id, &asked.by()).await?;
    Ok(HttpResponse::json(200, &json!({ "id": id, "key": key.reveal() })))
}

async fn revoke_connector(asked: Asked<'_>) -> Answer {
    let id: ConnectorId = asked.id()?;
    connectors::revoke(asked.app, &id, &asked.by()).await?;
    Ok(HttpResponse::json(200, &json!({ "id": id, "revoked": true })))
}

async fn list_streams(asked: Asked<'_>) -> Answer {
    let mut statuses = Vec::new();
    for registered in streams::list(asked.store()).await? {
        statuses.push(streams::status(asked.store(), &asked.app.clock, &registered).await?);
    }
    let (sensors, mqtt) = (mappings::list(asked.store()).await?, mqtt::list(asked.store()).await?);
    Ok(HttpResponse::json(200, &json!({ "streams": statuses, "sensors": sensors, "mqtt": mqtt })))
}

async fn apply_streams(asked: Asked<'_>) -> Answer {
    let file = StreamsFile::read(asked.body()?).map_err(|wrong| ControlError::Refused(wrong.to_string()))?;
    let prune = asked.query("prune") == Some("true");
    Ok(HttpResponse::json(200, &streams::apply(asked.app, &file, prune).await?))
}

async fn read_stream(asked: Asked<'_>) -> Answer {
    let id: StreamId = asked.id()?;
    let registered = streams::get(asked.store(), &id).await?.ok_or(ControlError::Unknown(format!("stream {id}")))?;
    Ok(HttpResponse::json(200, &streams::status(asked.store(), &asked.app.clock, &registered).await?))
}

async fn set_started(asked: Asked<'_>, started: bool) -> Answer {
    let id: StreamId = asked.id()?;
    if streams::set_started(asked.app, &id, started, &asked.by()).await? {
        Ok(HttpResponse::json(200, &json!({ "id": id, "started": started })))
    } else {
        Err(ControlError::Unknown(format!("stream {id}")))
    }
}

async fn list_dead_letters(asked: Asked<'_>) -> Answer {
    let selection = Selection {
        stream: asked.query("stream").map(named).transpose()?,
        reason: asked.query("reason").map(named).transpose()?,
    };
    let listing = dead::page(asked.store(), &selection, asked.query("after"), asked.max()?).await?;
    let dead::Listing { letters, unreadable, next } = listing;
    Ok(HttpResponse::json(200, &json!({ "dead_letters": letters, "unreadable": unreadable, "next": next })))
}

async fn explain_dead_letters(asked: Asked<'_>) -> Answer {
    Ok(HttpResponse::json(200, &dead::patterns(asked.store()).await?))
}

/// One letter by `id`, or the next page of those that `stream` and `reason` select, of all with `all`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen {
    id: Option<EventId>,
    stream: Option<StreamId>,
    reason: Option<Reason>,
    #[serde(default)]
    all: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// Of a redrive: `began` of the page before.
    began: Option<Timestamp>,
    /// Of a purge: only letters last seen longer ago, such as `7d`.
    older_than: Option<Interval>,
}

impl Chosen {
    fn selection(self) -> Result<Selection, ControlError> {
        if self.stream.is_none() && self.reason.is_none() && !self.all {
            return Err(ControlError::Refused("name the dead letters: id, stream, reason, or all".into()));
        }
        Ok(Selection { stream: self.stream, reason: self.reason })
    }
}

async fn redrive_dead_letters(asked: Asked<'_>) -> Answer {
    let mut chosen: Chosen = asked.body()?;
    let wanted = match chosen.id {
        Some(id) => Redrive::Letter(id),
        None => {
            let (after, began) = (chosen.after.take(), chosen.began);
            Redrive::Selected { selection: chosen.selection()?, after, began }
        }
    };
    Ok(HttpResponse::json(200, &dead::redrive(asked.app, &wanted, &asked.by()).await?))
}

async fn purge_dead_letters(asked: Asked<'_>) -> Answer {
    let mut chosen: Chosen = asked.body()?;
    let wanted = match chosen.id {
        Some(id) => Purge::Letter(id),
        None => {
            let (after, older_than) = (chosen.after.take(), chosen.older_than.map(Interval::get));
            Purge::Selected { selection: chosen.selection()?, older_than, after }
        }
    };
    let purged = dead::purge(asked.app, &wanted, &asked.by()).await?;
    match wanted {
        Purge::Letter(id) if purged == dead::Purged::default() => {
            Err(ControlError::Unknown(format!("dead letter {id}")))
        }
        _ => Ok(HttpResponse::json(200, &purged)),
    }
}

async fn list_given_up(asked: Asked<'_>) -> Answer {
    Ok(HttpResponse::json(200, &json!({ "queues": queues::standing(asked.app).await? })))
}

async fn show_given_up(asked: Asked<'_>) -> Answer {
    let max = asked.max()?.min(GIVEN_UP_PAGE);
    Ok(HttpResponse::json(200, &json!({ "messages": queues::show(asked.app, asked.id()?, max).await? })))
}

/// `max` messages at most; `more` in the answer says whether to come again.
async fn redrive_given_up(asked: Asked<'_>) -> Answer {
    let moved = queues::redrive(asked.app, asked.id()?, asked.max()?, &asked.by()).await?;
    Ok(HttpResponse::json(200, &moved))
}

async fn read_dead_letter(asked: Asked<'_>) -> Answer {
    let id: EventId = asked.id()?;
    let unknown = || ControlError::Unknown(format!("dead letter {id}"));
    let letter = dead::find(asked.store(), id).await?.ok_or_else(unknown)?;
    // Absent: the stored bytes are gone, and the letter says how many there were.
    let bytes = dead::raw(&*asked.app.blobs, &letter).await?.map(|bytes| BASE64.encode(bytes));
    Ok(HttpResponse::json(200, &json!({ "dead_letter": letter, "base64": bytes })))
}

/// One page: `day` (a date in UTC, else today), `after` (an entry's id) and `max`. `next` is the `after` of the next page, if
/// there may be one.
async fn read_audit(asked: Asked<'_>) -> Answer {
    let day = match asked.query("day") {
        Some(day) => {
            let refused = || ControlError::Refused(format!("day {day:?} is not a date such as 2026-11-28"));
            format!("{day}T00:00:00Z").parse().map_err(|_| refused())?
        }
        None => asked.app.clock.now(),
    };
    let max = asked.max()?;
    let entries = audit::page(asked.store(), day, asked.query("after"), max).await?;
    let next = entries.last().filter(|_| entries.len() == max).map(|last| last.id.clone());
    Ok(HttpResponse::json(200, &json!({ "audit": entries, "next": next })))
}

fn shown(connector: &Connector) -> Value {
    json!({
        "id": connector.registration.id,
        "tenant": connector.registration.tenant,
        "sources": connector.registration.sources,
        "critical": connector.registration.critical,
        "principal": connector.principal(),
        "revoked": connector.revoked,
        "key_changed_at": rfc3339(connector.key_changed_at),
    })
}

fn named<T: FromStr>(text: &str) -> Result<T, ControlError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| ControlError::Refused(e.to_string()))
}

/// As far as processes share it; a host answers by itself, of its disk too.
async fn read_readiness(asked: Asked<'_>) -> Answer {
    let report = ready::shared(asked.app).await;
    Ok(HttpResponse::json(if report.ready { 200 } else { 503 }, &report))
}

/// What is looked up each minute, looked up now; what functions count, CloudWatch has. A host answers by itself.
async fn read_metrics(asked: Asked<'_>) -> Answer {
    let text = watch::prometheus(&watch::look(asked.app).await?);
    Ok(HttpResponse::text(200, text))
}

async fn status(asked: Asked<'_>) -> Answer {
    let app = asked.app;
    let mut queues = serde_json::Map::new();
    for tier in Tier::ALL {
        let depth = app.queue.depth(app.settings.queues.tier(tier)).await?;
        let depth = json!({ "visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed });
        queues.insert(tier.name().to_owned(), depth);
    }
    let known = shared::known(&app.breakers, asked.store(), &app.clock).await?;
    let registered = streams::list(asked.store()).await?;
    let now = app.clock.now();
    let mut waiting = Vec::new();
    for stream in registered.iter().filter(|stream| stream.started) {
        let poll = streams::poll_state(asked.store(), &stream.spec.id).await?;
        if let Some(until) = poll.waits_until().filter(|until| now < *until) {
            let throttled = poll.is_throttled(now);
            waiting.push(json!({
                "stream_id": stream.spec.id, "not_before": rfc3339(until), "throttled": throttled, "because": poll.last_error,
                "stale_s": poll.stale_s(now),
            }));
        }
    }
    let consumers = lag::last(asked.store()).await?;
    let consumers = consumers.at.map(|at| json!({ "at": rfc3339(at), "lags": consumers.lags }));
    let brokers = mqtt::connections(asked.store()).await?;
    let report = report::last(asked.store()).await?;
    let [critical, bulk] = report::probing(known, report.as_ref(), now);
    let waits = report.map(|report| json!({ "at": rfc3339(report.at), "tiers": report.waits }));
    let status = json!({
        "at": rfc3339(now),
        "stage": app.settings.stage,
        "producer_id": app.settings.producer_id,
        "queues": queues,
        "sink": app.settings.sink,
        "intake_closed": app.queue.closed(),
        "circuit_breaker": { "critical": critical.state, "bulk": bulk.state },
        "circuit_breaker_since": { "critical": critical.since.map(rfc3339), "bulk": bulk.since.map(rfc3339) },
        "waits": waits,
        "consumers": consumers,
        "mqtt": brokers,
        "streams": {
            "registered": registered.len(),
            "active": registered.iter().filter(|r| r.started).count(),
            "waiting": waiting,
        },
        "delivered_by_this_process": app.tally.totals(),
    });
    Ok(HttpResponse::json(200, &status))
}
