//! The short circuit for lives [E1]: admit, decode, validate, and one record straight to the broker; the sender hears
//! "accepted" on the first durable acknowledgement. Drills go the NORMAL way [E4].

pub mod admit;
pub(crate) mod derived;
mod hedge;
pub mod known;
pub mod marks;
mod reply;
mod thread;
pub mod tries;
pub mod turns;

use std::sync::Arc;

use bytes::Bytes;

use crate::app::App;
use crate::control::caller::{Caller, Proof};
use crate::dead::{self, Rejected};
use crate::decode::{Context, Format, Row};
use crate::error::{BackendError, Reason, Reject, Sender};
use crate::ingest::{self, IngestError, NoRoom, pack, validate};
use crate::limits::{ALERT_BYTES, HEDGE, KNOWN_LATER};
use crate::record::{
    AlertFacts, ConnectorId, Draft, Lineage, Outgoing, Quality, Record, ShapeTold, SourceId, Stream, StreamId, Tier,
    Traceparent, WhenFull,
};
use crate::store::Key;
use crate::time::Timestamp;
use admit::{Admitted, NotAdmitted};
use hedge::Durable;
use known::Names;
pub use reply::{Accepted, AcknowledgedBy};

/// One pushed body: an alert as JSON or CAP, or a feed of several.
pub struct Incoming<'a> {
    /// Who sends it, as the door found out.
    pub caller: &'a Caller,
    /// As the sender asked; a connector with one source id need not.
    pub source: Option<&'a SourceId>,
    /// JSON or CAP, as it came.
    pub body: Bytes,
    /// When the door had it whole; the time of acceptance [P1].
    pub received_at: Timestamp,
    /// Over MQTT: the topic and who published there, for the dead letters [R4].
    pub sender: Option<&'a Sender>,
    /// Of a dead letter that is redriven: what it was [R4].
    pub lineage: Option<Arc<Lineage>>,
}

impl Incoming<'_> {
    /// On its way to the dead letters, with the bytes that came and who pushed them.
    fn rejected(&self, source: &SourceId, reject: Reject) -> Rejected {
        let connector = self.caller.connector().map(|connector| connector.registration.id.to_string());
        let sender = Sender { connector, ..self.sender.cloned().unwrap_or_default() };
        let mut reject = if sender == Sender::default() { reject } else { reject.sent_by(&sender) };
        reject.lineage = self.lineage.clone();
        Rejected::new(source.clone(), reject, &self.body)
    }
}

/// What the sender hears.
#[derive(Debug)]
pub enum Verdict {
    /// Every alert of the body is durable or, where it broke a rule, refused by itself and kept in the dead letters.
    Taken {
        /// Who sent it.
        connector: ConnectorId,
        /// What each of its alerts became.
        accepted: Vec<Accepted>,
        /// Those that can never be accepted; their bytes are among the dead letters.
        rejected: Vec<Reject>,
    },
    /// Nothing of it was taken, for good. What came over MQTT is kept; over HTTP the sender hears of it and has the bytes.
    Refused(Refusal),
    /// The tier takes nothing new: slow down [Q2]. What was accepted before is listed.
    Full {
        /// Alerts that were accepted before it; a repeat finds them as duplicates.
        accepted: Vec<Accepted>,
        /// Why.
        why: NoRoom,
    },
    /// Nothing durable could take it: come back soon. What was accepted before is listed.
    Unavailable {
        /// Alerts that were accepted before it; a repeat finds them as duplicates.
        accepted: Vec<Accepted>,
        /// What is away, in words.
        problem: BackendError,
    },
}

/// A body of which nothing is taken, however often it comes. Who is not admitted is audited; what was pushed over MQTT, or is
/// no alert, is kept in the dead letters [Q1].
#[derive(Debug)]
pub struct Refusal {
    /// What the door answers.
    pub why: Why,
    /// Who sent it, as far as that is known.
    pub connector: Option<ConnectorId>,
    /// The reason, in the sender's words.
    pub reject: Reject,
}

/// Why a whole message was refused; each door says it in its protocol's own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Unknown, wrong or revoked: 401.
    Unknown,
    /// Known, but not for this source id: 403.
    NotGranted,
    /// The body as a whole is no alert.
    NotData,
}

/// A body that was admitted and read; nothing of it is durable yet.
#[derive(Debug)]
pub struct Examined {
    /// Who sends it.
    pub connector: ConnectorId,
    stream: Stream,
    rows: Vec<Row>,
}

impl Examined {
    /// Every alert of it is valid.
    pub fn is_sound(&self) -> bool {
        self.rows.iter().all(Result::is_ok)
    }

    /// One alert of it at least is valid, or there is none in it at all.
    pub fn has_sound(&self) -> bool {
        self.rows.is_empty() || self.rows.iter().any(Result::is_ok)
    }
}

/// Why a body was not even examined.
#[derive(Debug)]
pub enum Unexamined {
    /// For good: it is not acknowledged to anybody else, and its bytes are kept unless the sender hears of it.
    Refused(Refusal),
    /// Not now: something is away, and the sender is not acknowledged.
    Backend(BackendError),
}

impl From<BackendError> for Unexamined {
    fn from(e: BackendError) -> Unexamined {
        Unexamined::Backend(e)
    }
}

/// Takes one pushed body. What it leaves under way ends by itself: whoever ends the invocation waits for `app.tries` [E2].
pub async fn express(app: &App, incoming: Incoming<'_>) -> Verdict {
    express_of(app, incoming, &Made::default()).await
}

/// What an alert that is made of another record knows beside its own words.
#[derive(Default)]
struct Made {
    /// The fire that the record tells of [S12].
    incident: Option<Arc<str>>,
    /// What it says, the same at each try: a body of its own has a new identifier and time each time. However often it is
    /// refused, that is one dead letter [R4].
    content: Option<Bytes>,
}

/// The same of alerts that are made of a record.
async fn express_of(app: &App, incoming: Incoming<'_>, made: &Made) -> Verdict {
    let Examined { connector, stream, rows } = match examine(app, &incoming).await {
        Ok(examined) => examined,
        Err(Unexamined::Refused(refusal)) => return Verdict::Refused(refusal),
        Err(Unexamined::Backend(problem)) => return Verdict::Unavailable { accepted: Vec::new(), problem },
    };
    let whole = (rows.len() == 1).then_some(&incoming.body);
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    for row in rows {
        let taken = match row {
            Ok(draft) => take_alert(app, &stream, draft, made).await,
            Err(reject) => Ok(Err(reject.into())),
        };
        match taken {
            Ok(Ok(one)) => accepted.push(one),
            Ok(Err(NotAccepted::Refused(reject))) => {
                ingest::count_failed(stream.source.as_str(), reject.reason, 1);
                rejected.push(reject);
            }
            Ok(Err(NotAccepted::Rejected(mut reject))) => {
                if let Some(body) = whole {
                    reject = reject.with_raw(body.clone());
                }
                let original = incoming.rejected(&stream.source, reject.clone()).saying(made.content.clone());
                let buried = dead::bury_rejects(app, &stream, vec![original]).await;
                if let Err(problem) = buried {
                    return Verdict::Unavailable { accepted, problem };
                }
                ingest::count_failed(stream.source.as_str(), reject.reason, 1);
                rejected.push(reject);
            }
            Err(IngestError::Full(why)) => return Verdict::Full { accepted, why },
            Err(IngestError::Backend(problem)) => return Verdict::Unavailable { accepted, problem },
        }
    }
    Verdict::Taken { connector, accepted, rejected }
}

/// Everything that can be judged before anything is durable. Whoever acknowledges by itself, such as our own MQTT endpoint,
/// asks first, and acknowledges only what stands [E5, Q1].
pub async fn examine(app: &App, incoming: &Incoming<'_>) -> Result<Examined, Unexamined> {
    let Admitted { connector, source } = match admit::admit(app, incoming.caller, incoming.source).await {
        Ok(admitted) => admitted,
        Err(NotAdmitted::Refused(refusal)) => {
            // Whoever is not admitted may write any source id: it is no label.
            ingest::count_failed("", refusal.reject.reason, 1);
            return Err(keep_refused(app, incoming, refusal).await?);
        }
        Err(NotAdmitted::Backend(problem)) => return Err(problem.into()),
    };
    let connector = connector.registration;
    let refused = |reject| Refusal { why: Why::NotData, connector: Some(connector.id.clone()), reject };
    if incoming.body.len() > ALERT_BYTES {
        let detail = format!("the body has {} bytes, {ALERT_BYTES} at most", incoming.body.len());
        let refusal = refused(Reject::new(Reason::TooLarge, detail));
        return Err(keep_refused(app, incoming, refusal).await?);
    }
    let id = StreamId::new(connector.id.as_str());
    let id = id.map_err(|e| Unexamined::Refused(refused(Reject::new(Reason::UnauthorisedSource, e.to_string()))))?;
    let stream = Stream {
        id,
        source,
        tenant: connector.tenant.clone(),
        granted: connector.critical,
        when_full: WhenFull::Refuse,
    };
    let context = Context { source: &stream.source, received_at: incoming.received_at, topic: None, message: None };
    let now = app.clock.now();
    let rows = match Format::ALERT.rows(&incoming.body, context) {
        Ok(rows) => {
            let redriven = |mut draft: Draft| {
                draft.origin.lineage = incoming.lineage.clone();
                draft
            };
            rows.map(|row| row.map(redriven).and_then(|draft| validate::check(draft, now))).collect()
        }
        Err(reject) => {
            let reject = reject.with_raw(incoming.body.clone());
            ingest::count_failed(stream.source.as_str(), reject.reason, 1);
            let rejected = incoming.rejected(&stream.source, reject.clone());
            dead::bury_rejects(app, &stream, vec![rejected]).await?;
            return Err(Unexamined::Refused(refused(reject)));
        }
    };
    Ok(Examined { connector: connector.id, stream, rows })
}

/// Over HTTP the sender hears of the refusal and still has the bytes. Over MQTT it may not: AWS IoT acknowledges before
/// anything runs.
async fn keep_refused(app: &App, incoming: &Incoming<'_>, mut refusal: Refusal) -> Result<Unexamined, BackendError> {
    if let (Proof::Principal(_), Some(source)) = (incoming.caller.proof(), incoming.source) {
        refusal.reject = refusal.reject.with_raw(incoming.body.clone());
        let rejected = incoming.rejected(source, refusal.reject.clone());
        dead::bury_unadmitted(app, refusal.connector.as_ref(), rejected).await?;
    }
    Ok(Unexamined::Refused(refusal))
}

/// Why an alert was not taken.
enum NotAccepted {
    /// It breaks a rule; its bytes are still to be kept.
    Rejected(Reject),
    /// The broker refused it for good: the record is a dead letter, as one is that it refuses later.
    Refused(Reject),
}

impl From<Reject> for NotAccepted {
    fn from(reject: Reject) -> NotAccepted {
        NotAccepted::Rejected(reject)
    }
}

/// Times that a record is published because another instance took another content of the same alert meanwhile.
const TAKES: usize = 3;

/// Takes one valid alert: broker or queue has it, or it can never be taken.
async fn take_alert(
    app: &App,
    stream: &Stream,
    mut draft: Draft,
    made: &Made,
) -> Result<Result<Accepted, NotAccepted>, IngestError> {
    let Some(mut alert) = draft.alert.take() else {
        return Ok(Err(draft.refused(Reject::new(Reason::NotData, "it holds no alert")).into()));
    };
    let key = known::key(&draft.source, &alert.name);
    let names = self::names(app);
    let turn = names.turn(&key).await;
    let mut look = names.look(&key).await;
    if let Some(before) = look.known.duplicate(draft.event, draft.content) {
        return Ok(Ok(before.again(app.clock.now() > alert.expires.unwrap_or(Timestamp::MAX))));
    }
    let source = draft.source.clone();
    thread::join(names, &source, &mut alert, &mut draft.quality).await;
    if !look.store_answered() {
        let problem =
            "is a best effort: the state store did not answer, and other instances may have published more of it";
        draft.quality.push(Quality { field: "revision".into(), problem: problem.into(), raw: None });
    }
    if let Some(lineage) = draft.origin.lineage.clone() {
        draft.quality.push(late(&lineage, alert.sent, app.clock.now()));
    }
    let mut take = 1;
    loop {
        let before = look.known.last(draft.event).cloned();
        let mut revised = draft.clone();
        revised.quality = warned(&draft.quality, before.as_ref(), alert.shape);
        let revision = before.map_or(0, |before| before.revision + 1);
        let accepted = match publish(app, stream, revised, &alert, revision, made).await? {
            Ok(accepted) => accepted,
            Err(not_accepted) => return Ok(Err(not_accepted)),
        };
        look.known.add(&alert.thread, draft.content, &accepted);
        if app.recent.is_alone() {
            names.remember(&key, &look);
            let (app, told) = (app.clone(), accepted.clone());
            app.tries.clone().spawn(async move {
                if !self::names(&app).keep(&key, look, draft.content, &told).await.is_stored {
                    drop(turn);
                    know_later(&app, key);
                }
            });
            return Ok(Ok(accepted));
        }
        look = names.keep(&key, look, draft.content, &accepted).await;
        if take == TAKES || !look.known.clashes(draft.content, &accepted) {
            if !look.is_stored {
                know_later(app, key);
            }
            return Ok(Ok(accepted));
        }
        take += 1;
    }
}

/// An alert waits for the store no longer than for the broker [E2].
fn names(app: &App) -> Names<'_> {
    Names { store: &*app.store, recent: &app.recent, clock: &app.clock, patience: HEDGE }
}

/// What the store did not take in time of an alert that was answered.
fn know_later(app: &App, key: Key) {
    let one = app.clone();
    app.tries.spawn(async move { Names { patience: KNOWN_LATER / 5, ..names(&one) }.keep_later(&key).await });
}

/// Whoever reads a redriven alert must see that it is not news, whether or not it has expired [E4].
fn late(lineage: &Lineage, sent: Timestamp, now: Timestamp) -> Quality {
    let minutes = now.duration_since(sent).as_mins().max(0);
    let problem = format!(
        "lies {minutes} min before this publication: the alert had been refused ({}) and was redriven by an operator",
        lineage.reason
    );
    Quality { field: "sent".into(), problem, raw: None }
}

/// Publishes a record again that the sink refused [R4]: the way that any alert takes, with its thread's order.
pub(crate) async fn again(
    app: &App,
    stream: &Stream,
    mut record: Outgoing,
) -> Result<Result<(), Reject>, BackendError> {
    record.mark_expired(app.clock.now());
    Ok(match hedge::send(app, stream, record).await? {
        Durable::Broker(_) | Durable::Queue => Ok(()),
        Durable::Refused(reason, detail) => Err(Reject::new(reason, detail)),
    })
}

/// A revision whose shape cannot be read, or that has none, says that the one before had one: whoever shows the latest
/// revision must learn that the order still holds somewhere.
fn warned(quality: &[Quality], before: Option<&Accepted>, shape: ShapeTold) -> Vec<Quality> {
    let mut quality = quality.to_vec();
    if let Some(before) = before.filter(|before| before.geometry == ShapeTold::Ok && shape != ShapeTold::Ok) {
        let lost = if shape == ShapeTold::Broken { "cannot be read" } else { "is missing" };
        let problem = format!("{lost}, although that of revision {} could be read", before.revision);
        quality.push(Quality { field: "geometry".into(), problem, raw: None });
    }
    quality
}

async fn publish(
    app: &App,
    stream: &Stream,
    mut draft: Draft,
    alert: &AlertFacts,
    revision: u32,
    made: &Made,
) -> Result<Result<Accepted, NotAccepted>, IngestError> {
    let now = app.clock.now();
    draft.alert = Some(Box::new(alert.clone()));
    let record = match ingest::enrich(draft, revision, stream, now) {
        Ok(record) => Record { incident: made.incident.clone(), ..record },
        Err(reject) => return Ok(Err(reject.into())),
    };
    let reply = |acknowledged_by, written| Accepted::new(&record, alert, acknowledged_by, written, now);
    if record.tier != Tier::Critical {
        let queued = ingest::queue_one(app, stream, &record).await?;
        return Ok(queued.map(|()| reply(AcknowledgedBy::Queue, None)).map_err(NotAccepted::from));
    }
    let traceparent = Traceparent::new(app.rng.bytes(), app.rng.bytes());
    let mut outgoing = match pack::outgoing(&record, &app.settings, traceparent) {
        Ok(outgoing) => outgoing,
        Err(reject) => return Ok(Err(record.draft.refused(reject).into())),
    };
    outgoing.mark_expired(now);
    let (acknowledged_by, written) = match hedge::send(app, stream, outgoing.clone()).await? {
        Durable::Broker(written) => (AcknowledgedBy::Broker, written),
        Durable::Queue => (AcknowledgedBy::Queue, None),
        Durable::Refused(reason, detail) => {
            let refused = Rejected::refused(&stream.id, outgoing, reason, detail.clone()).saying(made.content.clone());
            dead::bury_refused(app, &stream.id, &stream.tenant, vec![refused]).await?;
            return Ok(Err(NotAccepted::Refused(Reject::new(reason, detail))));
        }
    };
    Ok(Ok(reply(acknowledged_by, written)))
}
