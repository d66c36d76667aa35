//! What queues gave up [R4]: a message that was received as often as its queue allows, and not once done with, lies in a queue that
//! no function reads. Here it is looked at, and moved back to where it came from when its fault was mended: sent first and deleted
//! then, so that a crash between repeats it and never loses it. What cannot go back says why, and stays.
//!
//! To look at messages is to receive them: for that moment nobody else sees them.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::App;
use crate::control::audit::{self, Action};
use crate::control::connectors::ControlError;
use crate::error::BackendError;
use crate::limits::{GIVEN_UP_PAGE, GIVEN_UP_PAGE_TIME, GIVEN_UP_TEXT_CHARS, QUEUE_BATCH};
use crate::queue::{Body, Delivery, Message, QueueRef, Receipt, Settle, send_one};
use crate::record::Envelope;
use crate::schedule::streams;
use crate::schedule::ticks::{self, Tick};
use crate::settings::GivenUp;
use crate::time::Timestamp;

/// A queue answers a receive that waits from all of its servers, one that does not from some.
const WAIT: Duration = Duration::from_secs(1);

/// How one of these queues stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Which one.
    pub queue: GivenUp,
    /// Messages that can be looked at.
    pub messages: u64,
    /// Messages that somebody looks at right now.
    pub in_flight: u64,
    /// When the oldest of the first ten was sent.
    #[serde(serialize_with = "crate::time::serialize_optional")]
    pub oldest: Option<Timestamp>,
}

/// One message, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// The queue's own name for it.
    pub id: String,
    /// When it was sent.
    #[serde(serialize_with = "crate::time::serialize")]
    pub sent_at: Timestamp,
    /// How often it was received here, to be looked at.
    pub receives: u32,
    /// An envelope's head, or a text.
    pub holds: Value,
}

/// What became of a call that moves messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Messages that are where they came from.
    pub moved: u64,
    /// Messages that stay, and why.
    pub held: Vec<Held>,
    /// There may be more: the call had moved enough, or its time was over.
    pub more: bool,
    /// What stood in the way of all others, in words.
    pub stopped: Option<String>,
}

/// A message that stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The queue's own name for it.
    pub id: String,
    /// Why it has no way back.
    pub because: String,
}

fn place(app: &App, which: GivenUp) -> Result<&QueueRef, ControlError> {
    let known = app.settings.given_up.get(&which);
    known.ok_or_else(|| ControlError::Unknown(format!("queue {which} that this process may read")))
}

/// Of each queue that this process may read.
///
/// # Errors
/// When one does not answer.
pub async fn standing(app: &App) -> Result<Vec<Standing>, BackendError> {
    let looking = app.settings.given_up.iter().map(|(which, queue)| stands(app, *which, queue));
    futures::future::try_join_all(looking).await
}

async fn stands(app: &App, which: GivenUp, queue: &QueueRef) -> Result<Standing, BackendError> {
    let depth = app.queue.depth(queue).await?;
    let first = if depth.visible > 0 { look(app, queue, QUEUE_BATCH).await? } else { Vec::new() };
    let oldest = first.iter().map(|message| message.sent_at).min();
    Ok(Standing { queue: which, messages: depth.visible, in_flight: depth.in_flight, oldest })
}

/// Its first messages, at most so many.
///
/// # Errors
/// When it is not a queue that this process may read, or does not answer.
pub async fn show(app: &App, which: GivenUp, max: usize) -> Result<Vec<Shown>, ControlError> {
    let messages = look(app, place(app, which)?, max).await?;
    let shown = |message: Delivery| {
        let Delivery { id, sent_at, receives, body, .. } = message;
        Shown { id, sent_at, receives, holds: holds(&body) }
    };
    Ok(messages.into_iter().map(shown).collect())
}

fn holds(body: &Body) -> Value {
    match body {
        Body::Text(text) => {
            json!({ "text": text.chars().take(GIVEN_UP_TEXT_CHARS).collect::<String>(), "bytes": text.len() })
        }
        Body::Binary(bytes) => match Envelope::decode(bytes) {
            Ok(Envelope { id, stream, tenant, tier, count, accepted_at, .. }) => json!({
                "envelope": id.to_string(), "stream": stream, "tenant": tenant, "tier": tier, "records": count,
                "accepted_at": crate::time::rfc3339(accepted_at),
            }),
            Err(unreadable) => json!({ "unreadable": unreadable.to_string(), "bytes": bytes.len() }),
        },
    }
}

/// Messages are given back when all of them were received: one that is seen twice would be taken for two.
async fn look(app: &App, queue: &QueueRef, max: usize) -> Result<Vec<Delivery>, BackendError> {
    let mut seen = Vec::new();
    let looked = loop {
        let wanted = QUEUE_BATCH.min(max.saturating_sub(seen.len()));
        if wanted == 0 {
            break Ok(());
        }
        match app.queue.receive(queue, wanted, WAIT).await {
            Ok(received) if received.is_empty() => break Ok(()),
            Ok(received) => seen.extend(received),
            Err(problem) => break Err(problem),
        }
    };
    let receipts = seen.iter().map(|message| message.receipt.clone()).collect();
    give_back(app, queue, receipts).await;
    looked.map(|()| seen)
}

async fn give_back(app: &App, queue: &QueueRef, receipts: Vec<Receipt>) {
    let receipts: Vec<_> = receipts.into_iter().map(|receipt| (receipt, Settle::Release)).collect();
    if let Err(problem) = app.queue.settle(queue, &receipts).await {
        // They are visible again by themselves.
        tracing::warn!(%problem, %queue, "messages that were looked at are hidden for some seconds more");
    }
}

/// Moves messages back to where they came from, some at a call.
///
/// # Errors
/// When it is not a queue that this process may read, or does not answer, or what was done cannot be audited.
pub async fn redrive(app: &App, which: GivenUp, max: usize, by: &str) -> Result<Moved, ControlError> {
    let (queue, began) = (place(app, which)?, Instant::now());
    let (mut moved, mut kept) = (Moved::default(), Vec::new());
    let max = max.min(GIVEN_UP_PAGE);
    'page: loop {
        let left = max.saturating_sub(moved.moved as usize + moved.held.len());
        if left == 0 || began.elapsed() >= GIVEN_UP_PAGE_TIME {
            moved.more = true;
            break;
        }
        let received = match app.queue.receive(queue, left.min(QUEUE_BATCH), WAIT).await {
            Ok(received) => received,
            Err(problem) => {
                moved.stopped = Some(problem.to_string());
                break;
            }
        };
        if received.is_empty() {
            break;
        }
        for (nth, message) in received.iter().enumerate() {
            match move_back(app, which, queue, message).await {
                Ok(None) => moved.moved += 1,
                Ok(Some(because)) => {
                    moved.held.push(Held { id: message.id.clone(), because });
                    // Hidden until the end: the next receive gives others.
                    kept.push(message.receipt.clone());
                }
                Err(problem) => {
                    moved.stopped = Some(problem.to_string());
                    kept.extend(received[nth..].iter().map(|message| message.receipt.clone()));
                    break 'page;
                }
            }
        }
    }
    give_back(app, queue, kept).await;
    let detail = format!("messages given up: {} moved back, {} have no way back", moved.moved, moved.held.len());
    audit::write(app, Action::DeadLettersRedriven, by, which.name(), &detail).await?;
    Ok(moved)
}

/// `Some`: why it stays.
async fn move_back(
    app: &App,
    which: GivenUp,
    queue: &QueueRef,
    message: &Delivery,
) -> Result<Option<String>, BackendError> {
    let to = match source(app, which, &message.body).await? {
        Ok(to) => to,
        Err(because) => return Ok(Some(because)),
    };
    send_one(&*app.queue, &to, Message::now(message.body.clone())).await?;
    app.queue.settle(queue, &[(message.receipt.clone(), Settle::Forget)]).await?;
    Ok(None)
}

/// Where it came from, or why that cannot be said.
async fn source(app: &App, which: GivenUp, body: &Body) -> Result<Result<QueueRef, String>, BackendError> {
    let queues = &app.settings.queues;
    let queue = match which {
        GivenUp::Critical => &queues.critical,
        GivenUp::High => &queues.high,
        GivenUp::Normal => &queues.normal,
        GivenUp::Low => &queues.low,
        GivenUp::ExpressRetry => &queues.express_retry,
        // Whoever reads it takes the readings that the message names, or holds.
        GivenUp::SensorFailures => &queues.stream_ticks,
        GivenUp::Ticks => return tick_source(app, body).await,
    };
    Ok(Ok(queue.clone()))
}

async fn tick_source(app: &App, body: &Body) -> Result<Result<QueueRef, String>, BackendError> {
    let Body::Text(text) = body else { return Ok(Err("it is no tick".into())) };
    match serde_json::from_str::<Tick>(text) {
        Ok(tick) => Ok(match streams::get(&*app.store, &tick.stream).await? {
            Some(registered) => Ok(ticks::queue_of(&app.settings.queues, &registered.spec).clone()),
            None => Err(format!("no stream {} is registered", tick.stream)),
        }),
        Err(_) if is_lost_reading(text) => Ok(Ok(app.settings.queues.stream_ticks.clone())),
        Err(problem) => Ok(Err(format!("it is no tick: {problem}"))),
    }
}

/// It was moved back once from the sensors' failures.
fn is_lost_reading(text: &str) -> bool {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    message.get("KinesisBatchInfo").or(message.get("base64OriginalPayload")).is_some()
}
