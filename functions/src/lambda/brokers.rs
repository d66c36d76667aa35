//! The brokers as a function speaks to them: with the user of a secret, which is read again when a broker does not take it.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use lambda_runtime::Error;
use parking_lot::Mutex;
use serde::Deserialize;
use streammanager::error::BackendError;
use streammanager::record::Outgoing;
use streammanager::settings::{BadSetting, variable};
use streammanager::sink::kafka::{KafkaSettings, KafkaSink};
use streammanager::sink::{Lane, Position, Sent, Sink, TopicReport};
use tokio::time::{Instant, sleep_until};

use super::Environment;
use super::secrets::{AGAIN, Secrets};

const SECRET: &str = "KAFKA_SECRET_ARN";

/// As the environment says, with the user and password of the secret that it names.
pub(super) async fn sink(secrets: &Secrets, environment: &Environment) -> Result<Arc<dyn Sink>, Error> {
    let Some(secret) = variable(environment, SECRET) else {
        return Ok(Arc::new(KafkaSink::connect(&KafkaSettings::parse(environment)?)?));
    };
    let told = Told { secrets: secrets.clone(), secret: secret.to_owned(), environment: environment.clone() };
    let settings = told.read().await?;
    let current = Mutex::new(Arc::new(KafkaSink::connect(&settings)?));
    Ok(Arc::new(Renewed { told, current, last: tokio::sync::Mutex::new((settings, Instant::now())) }))
}

/// Where the settings come from.
struct Told {
    secrets: Secrets,
    secret: String,
    environment: Environment,
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: String,
}

impl Told {
    async fn read(&self) -> Result<KafkaSettings, BadSetting> {
        let bad = |rule: String| BadSetting { name: SECRET.into(), rule };
        let text = self.secrets.text(&self.secret).await.map_err(|e| bad(format!("cannot be read: {e}")))?;
        // What is wrong with it is told without any of it.
        let user: User = serde_json::from_str(text.reveal().unwrap_or_default())
            .map_err(|_| bad("its secret is not JSON with username and password, as MSK wants it".into()))?;
        let mut told = self.environment.clone();
        told.extend([("KAFKA_USER".to_owned(), user.username), ("KAFKA_PASSWORD".to_owned(), user.password)]);
        KafkaSettings::parse(&told)
    }
}

/// A sink whose user is read again while a call of it is not let in. What is under way ends with the producers that it has;
/// the next call has new ones.
struct Renewed {
    told: Told,
    current: Mutex<Arc<KafkaSink>>,
    /// The settings of the current one, and when they were read. Held while they are read.
    last: tokio::sync::Mutex<(KafkaSettings, Instant)>,
}

impl Renewed {
    fn current(&self) -> Arc<KafkaSink> {
        self.current.lock().clone()
    }

    /// Renewed inside of a call, so that nothing is under way between invocations.
    async fn renewing<T>(&self, sink: &Arc<KafkaSink>, call: impl Future<Output = T>) -> T {
        tokio::pin!(call);
        tokio::select! { biased;
            answer = &mut call => return answer,
            () = self.renewed(sink) => {}
        }
        call.await
    }

    /// Returns when another one has taken the place of `sink`, whose user is not let in.
    async fn renewed(&self, sink: &Arc<KafkaSink>) {
        loop {
            sink.login_refused().await;
            let mut last = self.last.lock().await;
            if !Arc::ptr_eq(sink, &self.current()) {
                return;
            }
            sleep_until(last.1 + AGAIN).await;
            let read = self.told.read().await;
            last.1 = Instant::now();
            sink.forget_refusal();
            match read {
                Ok(settings) if settings == last.0 => {}
                Ok(settings) => match KafkaSink::connect(&settings) {
                    Ok(new) => {
                        tracing::info!("a broker did not take the user, and its secret has another one since");
                        *self.current.lock() = Arc::new(new);
                        last.0 = settings;
                        return;
                    }
                    Err(problem) => tracing::warn!(%problem, "the brokers' user was read again"),
                },
                Err(problem) => tracing::warn!(%problem, "a broker does not take the user"),
            }
        }
    }
}

#[async_trait]
impl Sink for Renewed {
    async fn send(&self, lane: Lane, records: &[Outgoing]) -> Vec<Sent> {
        let sink = self.current();
        self.renewing(&sink, sink.send(lane, records)).await
    }

    async fn answers(&self) -> bool {
        let sink = self.current();
        self.renewing(&sink, sink.answers()).await
    }

    async fn check(&self) -> Result<Vec<TopicReport>, BackendError> {
        let sink = self.current();
        self.renewing(&sink, sink.check()).await
    }

    async fn positions(&self) -> Result<Vec<Position>, BackendError> {
        self.current().positions().await
    }
}
