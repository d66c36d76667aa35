//! Functions and what starts them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::error::Fault;
use super::model::{Action, Architecture, Auth, Function, StartAt, TopicRule, Trigger, queue_name};
use super::properties::Properties;
use super::resources::queue_named;
use super::rules::query;
use super::scope::{Declared, Scope, kind};
use super::unsupported::{self as known, Gathered};

/// Lambda's own limits and defaults.
const MEMORY: u32 = 128;
const TIMEOUT: Duration = Duration::from_secs(3);
const EVENT_AGE: Duration = Duration::from_secs(6 * 3600);
const RETRIES: u32 = 2;

/// The function, and the rules that SAM makes of its `IoTRule` events.
pub(super) fn function(
    scope: &Scope<'_>,
    id: &str,
    declared: &Declared,
    properties: &Properties<'_>,
    gathered: &mut Gathered,
) -> Result<(Function, Vec<TopicRule>), Fault> {
    let binary = declared.metadata.pointer("/BuildProperties/Binary").and_then(Value::as_str);
    let binary = binary.ok_or_else(|| {
        let rule = "is missing: only functions built from a cargo binary can run here";
        Fault::new(format!("Resources.{id}.Metadata.BuildProperties.Binary"), rule)
    })?;
    let asynchronous = properties.inner("EventInvokeConfig")?;
    let (mut retries, mut max_event_age, mut on_failure) = (None, None, None);
    if let Some(config) = &asynchronous {
        retries = config.count("MaximumRetryAttempts", 0..=2)?;
        max_event_age = config.seconds("MaximumEventAgeInSeconds", 60..=21_600)?;
        on_failure = failure_queue(scope, config)?;
        if retries.is_some_and(|retries| retries > 0) {
            let instead = "Lambda's waits of one and two minutes are a sixtieth as long";
            gathered.say(id, "EventInvokeConfig.MaximumRetryAttempts", instead);
        }
    }
    let provisioned = match properties.inner("ProvisionedConcurrencyConfig")? {
        Some(config) => config.count("ProvisionedConcurrentExecutions", 1..=1_000_000)?,
        None => None,
    };
    let mut function = Function {
        logical_id: id.into(),
        arn: scope.arn(id)?,
        name: scope.name_of(id)?,
        binary: binary.into(),
        environment: environment(scope, id, properties, gathered)?,
        timeout: properties.seconds("Timeout", 1..=900)?.unwrap_or(TIMEOUT),
        architecture: architecture(properties)?,
        memory: properties.count("MemorySize", 128..=10_240)?.unwrap_or(MEMORY),
        reserved: properties.count("ReservedConcurrentExecutions", 0..=1_000_000)?,
        provisioned: provisioned.unwrap_or_default(),
        traced: properties.text("Tracing")?.as_deref() == Some("Active"),
        calls_logged: calls_logged(properties)?,
        triggers: Vec::new(),
        on_failure,
        retries: retries.unwrap_or(RETRIES) as u8,
        max_event_age: max_event_age.unwrap_or(EVENT_AGE),
    };
    let mut rules = Vec::new();
    if let Some(events) = properties.inner("Events")? {
        for name in events.names() {
            let Some(event) = events.inner(name)? else { continue };
            let event_kind = event.required("Type", event.text("Type")?)?;
            let settings = event.required("Properties", event.inner("Properties")?)?;
            let event = Event { scope, id, name, settings: &settings };
            match event_kind.as_str() {
                "ScheduleV2" => function.triggers.extend(event.schedule("ScheduleExpression", gathered)?),
                "Schedule" => function.triggers.extend(event.schedule("Schedule", gathered)?),
                "SQS" => function.triggers.extend(event.queue(function.timeout, gathered)?),
                "Kinesis" => function.triggers.extend(event.stream(gathered)?),
                "HttpApi" => function.triggers.extend(event.http(gathered)?),
                "IoTRule" => rules.push(event.rule()?),
                other => gathered.say(id, &format!("Events.{name}"), format!("{other} events do not start it here")),
            }
        }
    }
    Ok((function, rules))
}

/// `DestinationConfig.OnFailure`: a queue of this template.
fn failure_queue(scope: &Scope<'_>, config: &Properties<'_>) -> Result<Option<String>, Fault> {
    let Some(destinations) = config.inner("DestinationConfig")? else { return Ok(None) };
    let Some(to) = destinations.inner("OnFailure")? else { return Ok(None) };
    let arn = to.required("Destination", to.text("Destination")?)?;
    queue_named(scope, &to, "Destination", &arn).map(Some)
}

/// A variable that names a queue by its URL ends so.
const QUEUE_URL: &str = "_QUEUE_URL";

/// One a function, and by Lambda's default the older.
fn architecture(properties: &Properties<'_>) -> Result<Architecture, Fault> {
    match properties.list("Architectures")?.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
        [] | [Some("x86_64")] => Ok(Architecture::X86),
        [Some("arm64")] => Ok(Architecture::Arm),
        _ => Err(properties.fault("Architectures", "must be x86_64 or arm64, one of them")),
    }
}

/// At the level of information, which is Lambda's own choice.
fn calls_logged(properties: &Properties<'_>) -> Result<bool, Fault> {
    let level = match properties.inner("LoggingConfig")? {
        Some(config) => config.text("SystemLogLevel")?,
        None => None,
    };
    Ok(!matches!(level.as_deref(), Some("WARN")))
}

fn environment(
    scope: &Scope<'_>,
    id: &str,
    properties: &Properties<'_>,
    gathered: &mut Gathered,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut environment = BTreeMap::new();
    let Some(section) = properties.inner("Environment")? else { return Ok(environment) };
    let Some(variables) = section.inner("Variables")? else { return Ok(environment) };
    for name in variables.names() {
        if let Some(text) = variables.text(name)? {
            if text.contains("{{resolve:") {
                gathered.say(
                    id,
                    &format!("Environment.Variables.{name}"),
                    "a dynamic reference is passed on as written",
                );
            }
            // A queue of nobody would take messages here that nobody reads; on AWS the function would fail.
            if name.ends_with(QUEUE_URL) && !is_queue_url(scope, &text)? {
                return Err(
                    variables.fault(name, format!("{text:?} is not a queue of this template; write !Ref QUEUE"))
                );
            }
            environment.insert(name.to_owned(), text);
        }
    }
    Ok(environment)
}

fn is_queue_url(scope: &Scope<'_>, text: &str) -> Result<bool, Fault> {
    match queue_name(text) {
        Some(name) => Ok(scope.named(kind::QUEUE, name)?.is_some()),
        None => Ok(false),
    }
}

struct Event<'e> {
    scope: &'e Scope<'e>,
    /// The function's.
    id: &'e str,
    name: &'e str,
    settings: &'e Properties<'e>,
}

impl Event<'_> {
    fn schedule(&self, expression: &str, gathered: &mut Gathered) -> Result<Option<Trigger>, Fault> {
        let at = self.settings;
        self.gather(gathered, known::SCHEDULE_EVENT);
        let text = at.required(expression, at.text(expression)?)?;
        if text.starts_with("cron(") || text.starts_with("at(") {
            gathered.say(self.id, &self.path(expression), format!("{text} never fires here; only rate(...) does"));
            return Ok(None);
        }
        let every = rate(&text).map_err(|rule| at.fault(expression, rule))?;
        let input = at.text("Input")?;
        let input = input.map(|text| serde_json::from_str(&text)).transpose();
        let input = input.map_err(|error| at.fault("Input", format!("is not JSON: {error}")))?;
        let state = at.text("State")?;
        let enabled = at.flag("Enabled")?.unwrap_or(true) && state.as_deref() != Some("DISABLED");
        Ok(Some(Trigger::Schedule { id: self.name.into(), every, flexible: self.flexible()?, input, enabled }))
    }

    fn flexible(&self) -> Result<Duration, Fault> {
        let Some(window) = self.settings.inner("FlexibleTimeWindow")? else { return Ok(Duration::ZERO) };
        match window.required("Mode", window.text("Mode")?)?.as_str() {
            "OFF" => Ok(Duration::ZERO),
            "FLEXIBLE" => {
                let minutes = window.count("MaximumWindowInMinutes", 1..=1440)?;
                let minutes = window.required("MaximumWindowInMinutes", minutes)?;
                Ok(Duration::from_secs(u64::from(minutes) * 60))
            }
            other => Err(window.fault("Mode", format!("must be OFF or FLEXIBLE, not {other:?}"))),
        }
    }

    fn queue(&self, timeout: Duration, gathered: &mut Gathered) -> Result<Option<Trigger>, Fault> {
        let at = self.settings;
        self.gather(gathered, known::QUEUE_EVENT);
        let arn = at.required("Queue", at.text("Queue")?)?;
        let queue = queue_named(self.scope, at, "Queue", &arn)?;
        let batch_size = at.count("BatchSize", 1..=10_000)?.unwrap_or(10);
        let window = at.seconds("MaximumBatchingWindowInSeconds", 0..=300)?.unwrap_or_default();
        if batch_size > 10 && window.is_zero() {
            return Err(at.fault("BatchSize", "over 10 needs a MaximumBatchingWindowInSeconds of at least 1"));
        }
        self.visible_longer(&queue, timeout)?;
        let max_concurrency = match at.inner("ScalingConfig")? {
            Some(scaling) => scaling.count("MaximumConcurrency", 2..=1000)?,
            None => None,
        };
        let report_failures = self.reports_failures()?;
        let trigger = Trigger::Queue { queue, batch_size, window, report_failures, max_concurrency };
        Ok(self.enabled()?.then_some(trigger))
    }

    /// Lambda refuses a queue whose messages come back while the function may still hold them.
    fn visible_longer(&self, queue: &str, timeout: Duration) -> Result<(), Fault> {
        let Some(id) = self.scope.named(kind::QUEUE, queue)? else { return Ok(()) };
        let declared = &self.scope.resources[id];
        let at = format!("Resources.{id}.Properties");
        let properties = Properties::new(self.scope, at, declared.properties.clone());
        let visibility = super::resources::queue(self.scope, id, &properties)?.visibility;
        if visibility < timeout {
            let rule = format!(
                "{} s is shorter than the {} s that {}, which reads the queue, may take",
                visibility.as_secs(),
                timeout.as_secs(),
                self.id
            );
            return Err(properties.fault("VisibilityTimeout", rule));
        }
        Ok(())
    }

    fn stream(&self, gathered: &mut Gathered) -> Result<Option<Trigger>, Fault> {
        let at = self.settings;
        self.gather(gathered, known::STREAM_EVENT);
        let arn = at.required("Stream", at.text("Stream")?)?;
        let stream = match self.scope.named(kind::STREAM, &arn)? {
            Some(id) => self.scope.name_of(id)?,
            None => return Err(at.fault("Stream", format!("{arn:?} is not a stream of this template"))),
        };
        let start = match at.required("StartingPosition", at.text("StartingPosition")?)?.as_str() {
            "TRIM_HORIZON" => StartAt::Oldest,
            "LATEST" => StartAt::Latest,
            "AT_TIMESTAMP" => {
                let time = at.required("StartingPositionTimestamp", at.text("StartingPositionTimestamp")?)?;
                let seconds = time.parse().map_err(|_| at.fault("StartingPositionTimestamp", "must be a number"))?;
                StartAt::Time(seconds)
            }
            other => {
                let rule = format!("must be TRIM_HORIZON, LATEST or AT_TIMESTAMP, not {other:?}");
                return Err(at.fault("StartingPosition", rule));
            }
        };
        // -1 stands for no limit in both.
        let unlimited = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
        let age = unlimited(at.number("MaximumRecordAgeInSeconds", -1..=604_800)?);
        if let Some(seconds) = age.filter(|seconds| *seconds < 60) {
            return Err(at.fault("MaximumRecordAgeInSeconds", format!("must be -1 or 60 to 604800, not {seconds}")));
        }
        let on_failure = failure_queue(self.scope, at)?;
        if on_failure.is_some() {
            let instead = "a report names records that the stream has no longer: its one reader has passed them";
            gathered.say(self.id, &self.path("DestinationConfig.OnFailure"), instead);
        }
        let trigger = Trigger::Stream {
            stream,
            batch_size: at.count("BatchSize", 1..=10_000)?.unwrap_or(100),
            window: at.seconds("MaximumBatchingWindowInSeconds", 0..=300)?.unwrap_or_default(),
            start,
            report_failures: self.reports_failures()?,
            bisect: at.flag("BisectBatchOnFunctionError")?.unwrap_or(false),
            retries: unlimited(at.number("MaximumRetryAttempts", -1..=10_000)?),
            max_record_age: age.map(|seconds| Duration::from_secs(seconds.into())),
            parallel: at.count("ParallelizationFactor", 1..=10)?.unwrap_or(1),
            on_failure,
        };
        Ok(self.enabled()?.then_some(trigger))
    }

    fn http(&self, gathered: &mut Gathered) -> Result<Option<Trigger>, Fault> {
        const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
        let at = self.settings;
        self.gather(gathered, known::HTTP_EVENT);
        let method = at.required("Method", at.text("Method")?)?.to_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(at.fault("Method", format!("must be one of {}, not {method:?}", METHODS.join(", "))));
        }
        let path = at.required("Path", at.text("Path")?)?;
        if !path.starts_with('/') {
            return Err(at.fault("Path", format!("must begin with /, not be {path:?}")));
        }
        let auth = match self.authorizer()?.as_deref() {
            None | Some("NONE") => Auth::Open,
            Some("AWS_IAM") => Auth::Signed,
            Some(other) => {
                let instead = format!("the authorizer {other} does not run here, and the route is not served");
                gathered.say(self.id, &self.path("Auth"), instead);
                return Ok(None);
            }
        };
        let millis = at.count("TimeoutInMillis", 50..=30_000)?.unwrap_or(30_000);
        let timeout = Duration::from_millis(millis.into());
        Ok(Some(Trigger::Http { method, path, auth, timeout }))
    }

    /// The event's own authorizer, else its API's default.
    fn authorizer(&self) -> Result<Option<String>, Fault> {
        let at = self.settings;
        if let Some(own) = at.inner("Auth")?
            && let Some(named) = own.text("Authorizer")?
        {
            return Ok(Some(named));
        }
        let api = match at.text("ApiId")? {
            None => self.scope.implicit_api(),
            Some(named) => match self.scope.named(kind::HTTP_API, &named)? {
                Some(id) => self.scope.resources[id].properties.clone(),
                None => return Err(at.fault("ApiId", format!("{named:?} is not an HTTP API of this template"))),
            },
        };
        match Properties::new(self.scope, format!("{}.ApiId", self.path("")), api).inner("Auth")? {
            Some(auth) => auth.text("DefaultAuthorizer"),
            None => Ok(None),
        }
    }

    fn rule(&self) -> Result<TopicRule, Fault> {
        let query = query(self.settings)?;
        let name = format!("{}{}", self.id, self.name);
        Ok(TopicRule {
            logical_id: name.clone(),
            name,
            select: query.select,
            filter: query.filter,
            actions: vec![Action::Lambda { function: self.id.into() }],
            error_action: None,
            enabled: true,
        })
    }

    fn reports_failures(&self) -> Result<bool, Fault> {
        let types = self.settings.list("FunctionResponseTypes")?;
        match types.iter().find(|kind| *kind != "ReportBatchItemFailures") {
            Some(other) => {
                Err(self.settings.fault("FunctionResponseTypes", format!("{other} is not ReportBatchItemFailures")))
            }
            None => Ok(!types.is_empty()),
        }
    }

    fn enabled(&self) -> Result<bool, Fault> {
        Ok(self.settings.flag("Enabled")?.unwrap_or(true))
    }

    fn path(&self, property: &str) -> String {
        format!("Events.{}.{property}", self.name)
    }

    fn gather(&self, gathered: &mut Gathered, known: &[(&'static str, known::Treatment)]) {
        gathered.properties(self.id, &self.path(""), self.settings, known);
    }
}

/// `rate(1 minute)`, `rate(5 minutes)`, `rate(1 hour)`, `rate(2 days)`.
fn rate(text: &str) -> Result<Duration, String> {
    let rule = || format!("{text:?} is not a rate: write rate(N minutes), rate(N hours) or rate(N days), N from 1");
    let inside = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(rule)?;
    let (number, unit) = inside.split_once(' ').ok_or_else(rule)?;
    let seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        _ => return Err(rule()),
    };
    let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(rule)?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}
