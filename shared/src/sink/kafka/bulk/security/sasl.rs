//! A login by SASL as Kafka carries it: the mechanism is agreed on, then its messages travel in requests of Kafka. What they say
//! is the mechanism's own: `scram`, `bearer`.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::{StrBytes, VersionRange};

use super::{bearer, scram};
use crate::sink::kafka::bulk::connection::{Ask, Connection};
use crate::sink::kafka::bulk::shape::{Part, Shape};
use crate::sink::kafka::login::{Refusal, Tokens};
use crate::sink::kafka::settings::Password;

impl Ask for SaslHandshakeRequest {
    // From 1 on what follows is a request of Kafka, not bare bytes.
    const SPOKEN: VersionRange = VersionRange { min: 1, max: 1 };
    const ANSWER: Shape =
        Shape { flexible: i16::MAX, parts: &[(0, Part::Fixed(2)), (0, Part::Structures(&[(0, Part::Text)]))] };
}

impl Ask for SaslAuthenticateRequest {
    const SPOKEN: VersionRange = VersionRange { min: 0, max: 2 };
    const ANSWER: Shape = Shape::WITHOUT_ARRAYS;
}

/// Who we say we are, and how we prove it.
enum Proof {
    Scram(scram::User),
    Bearer(Tokens),
}

pub(super) struct Login {
    proof: Proof,
    refusal: Refusal,
}

impl Login {
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn scram(user: &str, password: &Password, refusal: &Refusal) -> Result<Login, String> {
        Ok(Login { proof: Proof::Scram(scram::User::new(user, password)?), refusal: refusal.clone() })
    }

    /// # Errors
    /// Never, in a build that has a login.
    pub(super) fn bearer(tokens: &Tokens, refusal: &Refusal) -> Result<Login, String> {
        Ok(Login { proof: Proof::Bearer(tokens.clone()), refusal: refusal.clone() })
    }

    /// # Errors
    /// Why there is nothing to show.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        match &self.proof {
            Proof::Scram(_) => Ok(()),
            Proof::Bearer(tokens) => tokens.fresh().await.map(drop),
        }
    }

    /// How long the session lasts; `None`: as long as the connection.
    ///
    /// # Errors
    /// Why the broker does not let us in, or does not prove that it knows us, or why we have nothing to show.
    pub(super) async fn at(&self, connection: &Connection) -> Result<Option<Duration>, String> {
        let mechanism = match &self.proof {
            Proof::Scram(_) => scram::MECHANISM,
            Proof::Bearer(_) => bearer::MECHANISM,
        };
        agree(connection, mechanism).await?;
        let dialogue = Dialogue { connection, refusal: &self.refusal };
        let end = match &self.proof {
            Proof::Scram(user) => user.log_in(&dialogue).await?,
            Proof::Bearer(tokens) => bearer::log_in(tokens, &dialogue).await?,
        };
        let lifetime = u64::try_from(end.session_lifetime_ms).ok().filter(|&ms| ms > 0);
        Ok(lifetime.map(Duration::from_millis))
    }
}

async fn agree(connection: &Connection, name: &'static str) -> Result<(), String> {
    let mechanism = StrBytes::from_static_str(name);
    let answer = connection.ask(&SaslHandshakeRequest::default().with_mechanism(mechanism)).await?;
    match ResponseError::try_from_code(answer.error_code) {
        None => Ok(()),
        Some(ResponseError::UnsupportedSaslMechanism) => {
            let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            Err(format!("the broker does not offer {name}, only: {}", offered.join(", ")))
        }
        Some(ResponseError::IllegalSaslState) => {
            Err("this port of the broker takes no login: KAFKA_SECURITY must be tls or plaintext".into())
        }
        Some(error) => Err(format!("the broker refuses {name}: {error}")),
    }
}

/// What a mechanism says to the broker.
pub(super) struct Dialogue<'a> {
    connection: &'a Connection,
    refusal: &'a Refusal,
}

impl Dialogue<'_> {
    /// # Errors
    /// When the broker does not let in whom `told` names.
    pub(super) async fn say(
        &self,
        words: String,
        told: impl FnOnce() -> String,
    ) -> Result<SaslAuthenticateResponse, String> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(words));
        let answer = self.connection.ask(&request).await?;
        let Some(error) = ResponseError::try_from_code(answer.error_code) else { return Ok(answer) };
        let reason = answer.error_message.map_or_else(|| error.to_string(), |message| message.to_string());
        Err(self.refused(&told(), &reason))
    }

    /// Notes that the broker does not let us in, and says why.
    pub(super) fn refused(&self, told: &str, reason: &str) -> String {
        self.refusal.note();
        format!("the broker does not let {told}: {reason}")
    }
}
