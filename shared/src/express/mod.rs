//! The short circuit for lives [E1]: admit, decode, validate, and one record straight to the broker; the sender hears
//! "accepted" on the first durable acknowledgement. Drills go the NORMAL way [E4].

pub mod admit;
mod hedge;
pub mod marks;
pub mod recent;

mod threads;

use bytes::Bytes;

use crate::app::App;
use crate::control::caller::Caller;
use crate::dead;
use crate::decode::{Context, Format};
use crate::error::{BackendError, Reason, Reject};
use crate::ingest::dedup::Seen;
use crate::ingest::{self, IngestError, Ledger, pack, validate};
use crate::limits::ALERT_BYTES;
use crate::record::Topic;
use crate::record::{Draft, EventId, SourceId, Stream, StreamId, Tier, Traceparent, WhenFull};
use crate::time::Timestamp;
use admit::NotAdmitted;
use hedge::Durable;
use recent::Judged;

/// One pushed body: an alert as JSON or CAP, or a feed of several.
pub struct Incoming<'a> {
    pub caller: &'a Caller,
    /// As the sender asked; a connector with one source id need not.
    pub source: Option<&'a SourceId>,
    pub body: Bytes,
    pub received_at: Timestamp,
}

/// Where an accepted alert is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AcknowledgedBy {
    Broker,
    Queue,
}

/// An alert that is durable.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Accepted {
    pub event_id: EventId,
    pub acknowledged_by: AcknowledgedBy,
    pub topic: &'static str,
    /// Test, Exercise or Draft: it did not reach the critical topic.
    pub drill: bool,
}

/// What the sender hears.
#[derive(Debug)]
pub enum Verdict {
    /// Every alert of the body is durable or, where it broke a rule, refused by itself.
    Taken {
        accepted: Vec<Accepted>,
        rejected: Vec<Reject>,
    },
    NotAdmitted(NotAdmitted),
    /// The body as a whole is no alert.
    NotData(Reject),
    /// The tier's queue is at capacity: slow down [Q2]. What was accepted before is listed.
    Full {
        accepted: Vec<Accepted>,
        tier: Tier,
    },
    /// Nothing durable could take it: come back soon. What was accepted before is listed.
    Unavailable {
        accepted: Vec<Accepted>,
        problem: BackendError,
    },
}

/// Takes one pushed body. Nothing is left in flight when it returns [E2].
pub async fn express(app: &App, incoming: Incoming<'_>) -> Verdict {
    if incoming.body.len() > ALERT_BYTES {
        let detail = format!("the body has {} bytes, {ALERT_BYTES} at most", incoming.body.len());
        return Verdict::NotData(Reject::new(Reason::TooLarge, detail));
    }
    let (connector, source) = match admit::admit(app, incoming.caller, incoming.source).await {
        Ok(admitted) => admitted,
        Err(refused) => {
            if let NotAdmitted::Unknown(reject) | NotAdmitted::NotGranted(reject) = &refused {
                // Whoever is not admitted may write any source id: it is no label.
                ingest::count_failed("", reject.reason, 1);
            }
            return Verdict::NotAdmitted(refused);
        }
    };
    let stream = match StreamId::new(connector.registration.id.as_str()) {
        Ok(id) => Stream {
            id,
            source: source.clone(),
            tenant: connector.registration.tenant.clone(),
            granted: connector.registration.critical,
            when_full: WhenFull::Refuse,
        },
        Err(e) => return Verdict::NotData(Reject::new(Reason::UnauthorisedSource, e.to_string())),
    };
    let context = Context { source: &source, received_at: incoming.received_at, topic: None, message: None };
    let rows: Vec<_> = match Format::ALERT.rows(&incoming.body, context) {
        Ok(rows) => rows.collect(),
        Err(reject) => {
            let reject = reject.with_raw(incoming.body.clone());
            ingest::count_failed(source.as_str(), reject.reason, 1);
            return match dead::bury_rejects(app, &stream, vec![(stream.source.clone(), reject.clone())]).await {
                Ok(()) => Verdict::NotData(reject),
                Err(problem) => Verdict::Unavailable { accepted: Vec::new(), problem },
            };
        }
    };
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    for row in rows {
        let taken = match row.and_then(|draft| validate::check(draft, app.clock.now())) {
            Ok(draft) => one(app, &stream, draft).await,
            Err(reject) => Ok(Err(reject)),
        };
        match taken {
            Ok(Ok(one)) => accepted.push(one),
            Ok(Err(reject)) => {
                let buried = dead::bury_rejects(app, &stream, vec![(source.clone(), reject.clone())]).await;
                if let Err(problem) = buried {
                    return Verdict::Unavailable { accepted, problem };
                }
                ingest::count_failed(source.as_str(), reject.reason, 1);
                rejected.push(reject);
            }
            Err(IngestError::Full(tier)) => return Verdict::Full { accepted, tier },
            Err(IngestError::Backend(problem)) => return Verdict::Unavailable { accepted, problem },
        }
    }
    Verdict::Taken { accepted, rejected }
}

async fn one(app: &App, stream: &Stream, mut draft: Draft) -> Result<Result<Accepted, Reject>, IngestError> {
    let now = app.clock.now();
    let (event_id, content) = (draft.event, draft.content);
    let revision = match app.recent.judge(&draft, &app.clock) {
        Judged::Revision(revision) => revision,
        Judged::Duplicate(accepted) => return Ok(Ok(accepted)),
    };
    let source = draft.source.clone();
    let mut in_thread = None;
    if let Some(alert) = &mut draft.alert
        && threads::find_root(app, &source, alert).await
    {
        in_thread = Some((alert.name.clone(), alert.thread.clone()));
    }
    let leave_root = async {
        if let Some((name, root)) = &in_thread {
            threads::leave_root(app, &source, name, root).await;
        }
    };
    let record = match ingest::enrich(draft, revision, stream, now) {
        Ok(record) => record,
        Err(reject) => return Ok(Err(reject)),
    };
    let (topic, drill) = (record.topic.name(), record.topic == Topic::ALERT_DRILLS);
    let accepted = |acknowledged_by| Accepted { event_id, acknowledged_by, topic, drill };
    if record.tier != Tier::Critical {
        let (mut seen, mut ledger) = (Seen::of_tenant(&stream.tenant), Ledger::default());
        let drill = std::iter::once(Ok(record.draft));
        let (taken, ()) = tokio::join!(ingest::ingest(app, stream, &mut seen, &mut ledger, drill), leave_root);
        taken?;
        return Ok(Ok(accepted(AcknowledgedBy::Queue)));
    }
    let traceparent = Traceparent::new(app.rng.bytes(), app.rng.bytes());
    let mut outgoing = match pack::outgoing(&record, &app.settings, traceparent) {
        Ok(outgoing) => outgoing,
        Err(reject) => return Ok(Err(reject)),
    };
    outgoing.mark_expired(now);
    let value = outgoing.value.clone();
    let (durable, ()) = tokio::join!(hedge::send(app, stream, outgoing), leave_root);
    let durable = durable?;
    let acknowledged_by = match durable {
        Durable::Broker => AcknowledgedBy::Broker,
        Durable::Queue => AcknowledgedBy::Queue,
        Durable::Refused(reason, detail) => return Ok(Err(Reject::new(reason, detail).with_raw(value))),
    };
    app.tally.accepted(1, u64::from(revision > 0));
    metrics::counter!("stream_records_processed_total", "source_id" => stream.source.to_string()).increment(1);
    if acknowledged_by == AcknowledgedBy::Broker {
        app.tally.express(topic, app.clock.since(now));
    }
    let accepted = accepted(acknowledged_by);
    app.recent.accepted(content, &accepted);
    Ok(Ok(accepted))
}
