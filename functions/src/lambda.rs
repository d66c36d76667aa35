//! What every Lambda binary does around its handler: the App from the environment with the AWS and Kafka adapters, built
//! during initialisation, and one stop signal an invocation, before Lambda's own end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use streammanager::app::App;
use streammanager::aws::Aws;
use streammanager::limits::DELIVER_MARGIN;
use streammanager::settings::Settings;
use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
use streammanager::time::{Clock, Rng};
use streammanager::upstream::http::HttpUpstream;
use tokio_util::sync::CancellationToken;

use crate::HandlerError;

/// Serves invocations until Lambda ends the process.
pub async fn run<H, F>(handler: H) -> Result<(), Error>
where
    H: Fn(App, Value, CancellationToken) -> F,
    F: Future<Output = Result<Value, HandlerError>>,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_current_span(false).init();
    let app = app(std::env::vars().collect()).await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        let stop = CancellationToken::new();
        let ending = handler(app.clone(), event.payload, stop.clone());
        let time = left(event.context.deadline()).saturating_sub(DELIVER_MARGIN);
        async move {
            tokio::pin!(ending);
            tokio::select! { biased;
                answer = &mut ending => return answer.map_err(Error::from),
                () = tokio::time::sleep(time) => stop.cancel(),
            }
            ending.await.map_err(Error::from)
        }
    }))
    .await
}

#[allow(clippy::disallowed_methods)] // Lambda's deadline is a time of the host's clock
fn left(deadline: SystemTime) -> Duration {
    deadline.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Parameters and addresses from the environment; the FIRMS key from Secrets Manager, never from the environment.
async fn app(environment: BTreeMap<String, String>) -> Result<App, Error> {
    let get = |name: &str| environment.get(name).cloned().ok_or_else(|| Error::from(format!("{name} is not set")));
    let endpoint = environment.get("AWS_ENDPOINT_URL").map(String::as_str);
    let aws = Aws::connect(endpoint, &get("AWS_REGION")?).await;
    let mut environment_with_key = environment.clone();
    if let Some(secret) = environment.get("FIRMS_MAP_KEY_SECRET") {
        let secrets = aws_sdk_secretsmanager::Client::new(aws.config());
        match secrets.get_secret_value().secret_id(secret).send().await {
            Ok(value) => {
                environment_with_key.insert("FIRMS_MAP_KEY".into(), value.secret_string().unwrap_or_default().into());
            }
            // Only polling needs it, and says so when it does.
            Err(e) => {
                tracing::warn!(error = %aws_sdk_secretsmanager::error::DisplayErrorContext(&e), "no FIRMS map key")
            }
        }
    }
    let settings = Settings::parse(&environment_with_key)?;
    let sink = KafkaSink::connect(&KafkaSettings::parse(&environment)?)?;
    let clock = Clock::system();
    let rng = Rng::from_os()?;
    Ok(App {
        settings: Arc::new(settings),
        queue: Arc::new(aws.queue()),
        store: Arc::new(aws.store(&get("STATE_TABLE")?, clock.clone(), rng.clone())),
        blobs: Arc::new(aws.blobs(&get("BLOBS_BUCKET")?)),
        sink: Arc::new(sink),
        upstream: Arc::new(HttpUpstream::new()?),
        clock,
        rng,
        breakers: Arc::default(),
        admission: Arc::default(),
        tally: Arc::default(),
    })
}
