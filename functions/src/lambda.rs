//! What every Lambda binary does around its handler: the App from the environment with the adapters of AWS and of the sink, built
//! during initialisation, and one stop signal an invocation, before Lambda's own end.

mod brokers;
mod secrets;
pub mod shards;
mod streams;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::ServiceExt;
use lambda_runtime::tower::layer::layer_fn;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, LambdaInvocation, Runtime, Service, service_fn};
use serde_json::Value;
use streammanager::app::{App, Seams};
use streammanager::aws::Aws;
use streammanager::express::tries::Tries;
use streammanager::limits::{DELIVER_MARGIN, QUEUE_CAPACITY};
use streammanager::settings::{BadSetting, Settings, variable};
use streammanager::sink::{Apart, Kind, Sink};
use streammanager::time::{Clock, Rng};
use streammanager::upstream::http::HttpUpstream;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::emf::Emf;
use crate::{HandlerError, failed, warm};
use secrets::{Secrets, ServiceKeys};

/// Telling Lambda why the initialisation failed is worth this long.
const REPORT: Duration = Duration::from_secs(1);

/// Where CloudWatch keeps the metrics of a stack that names no other place.
const NAMESPACE: &str = "StreamManager";

type Environment = BTreeMap<String, String>;

/// Whether a function sends. It is chosen by type: a binary that never sends has no Kafka client in it, nor that one's TLS [F7].
trait Sends {
    async fn sink(told: &Told<'_>) -> Result<Arc<dyn Sink>, Error>;
}

/// What a sink is made of.
struct Told<'a> {
    aws: &'a Aws,
    secrets: &'a Secrets,
    settings: &'a Settings,
    environment: &'a Environment,
}

/// To what the settings name [K1]; Kafka's producers are connected during initialisation.
struct ToTheSink;

impl Sends for ToTheSink {
    async fn sink(told: &Told<'_>) -> Result<Arc<dyn Sink>, Error> {
        match told.settings.sink {
            Kind::Kafka => brokers::sink(told.secrets, told.environment).await,
            Kind::Kinesis => streams::sink(told.aws, told.settings, told.environment).await,
        }
    }
}

/// It has neither the brokers' address nor their secret, nor a right to the streams.
struct Nothing;

impl Sends for Nothing {
    async fn sink(_: &Told<'_>) -> Result<Arc<dyn Sink>, Error> {
        Ok(Arc::new(Apart))
    }
}

/// Serves invocations of a function that leaves the sink to others, until Lambda ends the process.
pub async fn run<H, F>(handler: H) -> ExitCode
where
    H: Fn(App, Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    run_as::<Nothing, _, _, _, _>(|_, _| Ok(()), |app, (), event, stop| handler(app, event, stop)).await
}

/// The same of a function that needs more than the App, made during initialisation.
pub async fn run_with<T, B, H, F>(build: B, handler: H) -> ExitCode
where
    T: Clone,
    B: FnOnce(&Aws) -> T,
    H: Fn(App, T, Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    run_as::<Nothing, _, _, _, _>(|aws, _| Ok(build(aws)), handler).await
}

/// The same of a function that speaks to the sink. `build`: what it needs besides the App, made during initialisation too.
pub async fn run_with_sink<T, B, H, F>(build: B, handler: H) -> ExitCode
where
    T: Clone,
    B: FnOnce(&Aws, &Environment) -> Result<T, BadSetting>,
    H: Fn(App, T, Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    run_as::<ToTheSink, _, _, _, _>(build, handler).await
}

async fn run_as<S, T, B, H, F>(build: B, handler: H) -> ExitCode
where
    S: Sends,
    T: Clone,
    B: FnOnce(&Aws, &Environment) -> Result<T, BadSetting>,
    H: Fn(App, T, Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let lines = tracing_subscriber::fmt::layer().json().with_current_span(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
    let environment: Environment = std::env::vars().collect();
    let named = |name| variable(&environment, name).unwrap_or(NAMESPACE).to_owned();
    let function = named("AWS_LAMBDA_FUNCTION_NAME");
    let version = variable(&environment, "AWS_LAMBDA_FUNCTION_VERSION").unwrap_or_default().to_owned();
    let emf = metrics_of(named("METRICS_NAMESPACE"), &function);
    let served = match initialise::<S, _, _>(environment, build).await {
        Ok((app, keys, own)) => {
            let ending = Ending { tries: app.tries.clone(), clock: app.clock.clone(), emf };
            let (keys, handler, function, version) = (&keys, &handler, &function, &version);
            serve(ending, |event, stop| {
                let (app, own) = (app.clone(), own.clone());
                async move {
                    let app = keys.given(app).await;
                    let answer = match warm::answered(&app, &event).await {
                        Some(answer) => Ok(answer),
                        None => handler(app, own, event, stop).await,
                    };
                    if answer.as_ref().is_ok_and(failed::is_failed) {
                        failed::count(function, version);
                    }
                    answer
                }
            })
            .await
        }
        Err(problem) => {
            report(&problem).await;
            Err(problem)
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!(%problem, "the function ends");
            ExitCode::FAILURE
        }
    }
}

/// Between the answer and the next event the environment may be frozen for hours, and what is under way then would be sent
/// when it thaws: a stale evacuation order. So the next event is asked for only when every try has ended. The sender has
/// its answer by then [E2].
async fn serve<H, F>(ending: Ending, handler: H) -> Result<(), Error>
where
    H: Fn(Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    let runtime = Runtime::new(service_fn(|event: LambdaEvent<Value>| {
        let stop = CancellationToken::new();
        let ending = handler(event.payload, stop.clone());
        let time = left(event.context.deadline()).saturating_sub(DELIVER_MARGIN);
        async move {
            tokio::pin!(ending);
            tokio::select! { biased;
                answer = &mut ending => return answer,
                () = tokio::time::sleep(time) => stop.cancel(),
            }
            ending.await
        }
    }));
    let settled = layer_fn(|answering| settled(answering, ending.clone()));
    runtime.layer(TracingLayer::new()).layer(settled).run().await
}

/// What an invocation ends with.
#[derive(Clone)]
struct Ending {
    tries: Arc<Tries>,
    clock: Clock,
    emf: Arc<Emf>,
}

/// One invocation, its answer included, then the end of its tries, and what was counted [O1].
fn settled<S>(answering: S, ending: Ending) -> impl Service<LambdaInvocation, Response = S::Response, Error = S::Error>
where
    S: Service<LambdaInvocation>,
{
    answering.map_future(move |answered: S::Future| {
        let Ending { tries, clock, emf } = ending.clone();
        async move {
            // Boxed: what surrounds an invocation nests deeper than the compiler likes.
            let answered = Box::pin(answered);
            let invocation = async {
                let answered = answered.await;
                tries.ended().await;
                answered
            };
            emf.told(&clock, say, invocation).await
        }
    })
}

impl From<HandlerError> for Diagnostic {
    fn from(e: HandlerError) -> Diagnostic {
        Diagnostic { error_type: e.kind().into(), error_message: e.to_string() }
    }
}

#[allow(clippy::disallowed_methods)] // Lambda's deadline is a time of the host's clock
fn left(deadline: SystemTime) -> Duration {
    deadline.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn initialise<S, T, B>(environment: Environment, build: B) -> Result<(App, ServiceKeys, T), Error>
where
    S: Sends,
    B: FnOnce(&Aws, &Environment) -> Result<T, BadSetting>,
{
    let endpoint = environment.get("AWS_ENDPOINT_URL").map(String::as_str);
    let aws = Aws::connect(endpoint, needed(&environment, "AWS_REGION")?).await;
    let own = build(&aws, &environment)?;
    let (app, keys) = app::<S>(&aws, &environment).await?;
    Ok((app, keys, own))
}

/// Everything that is counted in this process. There is one recorder a process: another one that is there already stays.
fn metrics_of(namespace: String, function: &str) -> Arc<Emf> {
    let emf = Arc::new(Emf::new(namespace, function));
    if metrics::set_global_recorder(emf.clone()).is_err() {
        tracing::warn!("nothing is told of what is counted: another recorder is in use");
    }
    emf
}

/// A line of the log. One that cannot be written is lost with the log that it belongs to.
fn say(line: Value) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `POST /runtime/init/error`: who invoked the function hears the cause, not only that it exited.
async fn report(problem: &Error) {
    let diagnostic = Diagnostic { error_type: "InitError".into(), error_message: problem.to_string() };
    let Ok(body) = serde_json::to_vec(&diagnostic) else { return };
    let request = lambda_runtime_api_client::build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("content-type", "application/json")
        .header("lambda-runtime-function-error-type", "Runtime.InitError")
        .body(body.into());
    if let (Ok(request), Ok(client)) = (request, lambda_runtime_api_client::Client::builder().build()) {
        // The log says it too.
        let _ = tokio::time::timeout(REPORT, client.call(request)).await;
    }
}

fn needed<'a>(environment: &'a Environment, name: &str) -> Result<&'a str, BadSetting> {
    variable(environment, name).ok_or_else(|| BadSetting { name: name.into(), rule: "is not set".into() })
}

/// Parameters and addresses from the environment; keys and passwords from Secrets Manager, never from the environment.
async fn app<S: Sends>(aws: &Aws, environment: &Environment) -> Result<(App, ServiceKeys), Error> {
    let settings = Settings::parse(environment)?;
    let (table, bucket) = (needed(environment, "STATE_TABLE")?, needed(environment, "BLOBS_BUCKET")?);
    let secrets = Secrets::of(aws);
    let sink = S::sink(&Told { aws, secrets: &secrets, settings: &settings, environment }).await?;
    let keys = ServiceKeys::read(secrets, environment, settings).await;
    let clock = Clock::system();
    let rng = Rng::from_os()?;
    let app = App::new(
        keys.settings().await,
        Seams {
            queue: Arc::new(aws.queue().bounded(QUEUE_CAPACITY)),
            store: Arc::new(aws.store(table, clock.clone(), rng.clone())),
            blobs: Arc::new(aws.blobs(bucket, clock.clone())?),
            sink,
            upstream: Arc::new(HttpUpstream::new()?),
        },
        clock,
        rng,
    );
    Ok((app, keys))
}
