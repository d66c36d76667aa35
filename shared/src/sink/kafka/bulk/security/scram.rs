//! SASL/SCRAM-SHA-512 (RFC 5802) as Kafka speaks it: user and password are taken as their bytes, without SASLprep, because
//! brokers take them so.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::{StrBytes, VersionRange};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::sink::kafka::bulk::connection::{Ask, Connection};
use crate::sink::kafka::bulk::shape::{Part, Shape};
use crate::sink::kafka::settings::Password;
use crate::time::Rng;

const MECHANISM: &str = "SCRAM-SHA-512";
/// What Kafka allows. With fewer, whoever listens finds a password quickly; the most keep this thread busy for some 20 ms.
const ITERATIONS: RangeInclusive<u32> = 4_096..=16_384;

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

pub(super) struct Login {
    user: String,
    password: Password,
    rng: Rng,
    /// Whether a broker has not taken the user.
    refused: watch::Sender<bool>,
}

impl Login {
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn new(user: &str, password: &Password) -> Result<Login, String> {
        let refused = watch::Sender::new(false);
        Ok(Login { user: user.to_owned(), password: password.clone(), rng: Rng::from_os()?, refused })
    }

    pub(super) async fn refused(&self) {
        // The sender lives as long as this.
        let _ = self.refused.subscribe().wait_for(|refused| *refused).await;
    }

    pub(super) fn forget_refusal(&self) {
        self.refused.send_replace(false);
    }

    /// How long the session lasts; `None`: as long as the connection.
    ///
    /// # Errors
    /// Why the broker does not let us in, or does not prove that it knows us.
    pub(super) async fn at(&self, connection: &Connection) -> Result<Option<Duration>, String> {
        let mechanism = StrBytes::from_static_str(MECHANISM);
        let answer = connection.ask(&SaslHandshakeRequest::default().with_mechanism(mechanism)).await?;
        match ResponseError::try_from_code(answer.error_code) {
            None => {}
            Some(ResponseError::UnsupportedSaslMechanism) => {
                let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
                return Err(format!("the broker does not offer {MECHANISM}, only: {}", offered.join(", ")));
            }
            Some(ResponseError::IllegalSaslState) => {
                return Err("this port of the broker takes no login: KAFKA_SECURITY must be tls or plaintext".into());
            }
            Some(error) => return Err(format!("the broker refuses {MECHANISM}: {error}")),
        }
        let exchange = Exchange::new(SHA512, &self.user, &STANDARD.encode(self.rng.bytes::<24>()));
        let challenge = self.say(connection, format!("n,,{}", exchange.bare)).await?.auth_bytes;
        let (proof, signature) = exchange.answer(&self.password.0, &challenge)?;
        let end = self.say(connection, proof).await?;
        verify(&end.auth_bytes, signature.as_ref())?;
        let lifetime = u64::try_from(end.session_lifetime_ms).ok().filter(|&ms| ms > 0);
        Ok(lifetime.map(Duration::from_millis))
    }

    async fn say(&self, connection: &Connection, words: String) -> Result<SaslAuthenticateResponse, String> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(words));
        let answer = connection.ask(&request).await?;
        let Some(error) = ResponseError::try_from_code(answer.error_code) else { return Ok(answer) };
        self.refused.send_replace(true);
        let reason = answer.error_message.map_or_else(|| error.to_string(), |message| message.to_string());
        Err(format!("the broker does not let the user {:?} in (KAFKA_USER, KAFKA_PASSWORD): {reason}", self.user))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Hash {
    pub(super) hmac: hmac::Algorithm,
    pub(super) pbkdf2: pbkdf2::Algorithm,
}

pub(super) const SHA512: Hash = Hash { hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 };

/// One exchange, named as in RFC 5802.
pub(super) struct Exchange {
    hash: Hash,
    /// client-first-message-bare
    pub(super) bare: String,
    pub(super) nonce: String,
}

impl Exchange {
    pub(super) fn new(hash: Hash, user: &str, nonce: &str) -> Exchange {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Exchange { hash, bare: format!("n={user},r={nonce}"), nonce: nonce.to_owned() }
    }

    /// client-final-message, and the signature by which the server proves that it knows the password too.
    pub(super) fn answer(&self, password: &str, challenge: &[u8]) -> Result<(String, hmac::Tag), String> {
        let (challenge, nonce, salt, iterations) = self.read(challenge)?;
        let digest = self.hash.hmac.digest_algorithm();
        let mut salted = vec![0; digest.output_len()];
        pbkdf2::derive(self.hash.pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
        let keyed = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(self.hash.hmac, key), text);
        let client_key = keyed(&salted, b"Client Key");
        let stored_key = digest::digest(digest, client_key.as_ref());
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{challenge},{without_proof}", self.bare);
        let client_signature = keyed(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(key, signature)| key ^ signature).collect();
        let server_signature = keyed(keyed(&salted, b"Server Key").as_ref(), auth_message.as_bytes());
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), server_signature))
    }

    /// server-first-message: itself, the nonce, the salt, and how often to hash.
    fn read<'a>(&self, challenge: &'a [u8]) -> Result<(&'a str, &'a str, Vec<u8>, NonZeroU32), String> {
        let text = std::str::from_utf8(challenge).map_err(|_| no_scram("a challenge that is not text"))?;
        let mut fields = text.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (nonce, salt, iterations) = (field("r="), field("s="), field("i="));
        let nonce = nonce.filter(|nonce| nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce));
        let nonce = nonce.ok_or_else(|| no_scram("a challenge to somebody else"))?;
        let salt = salt.and_then(|salt| STANDARD.decode(salt).ok());
        let salt = salt.ok_or_else(|| no_scram("a challenge without a salt"))?;
        let iterations = iterations.and_then(|iterations| iterations.parse::<NonZeroU32>().ok());
        let iterations = iterations.ok_or_else(|| no_scram("a challenge without a number of iterations"))?;
        if !ITERATIONS.contains(&iterations.get()) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            return Err(format!(
                "the broker wants a password hashed {iterations} times; {least} to {most} are allowed"
            ));
        }
        Ok((text, nonce, salt, iterations))
    }
}

/// server-final-message.
pub(super) fn verify(end: &[u8], signature: &[u8]) -> Result<(), String> {
    let shown = end.strip_prefix(b"v=").and_then(|shown| shown.split(|&byte| byte == b',').next());
    let shown = shown.and_then(|shown| STANDARD.decode(shown).ok());
    match shown.is_some_and(|shown| shown.ct_eq(signature).into()) {
        true => Ok(()),
        false => Err(no_scram("no proof that it knows the user's password")),
    }
}

fn no_scram(what: &str) -> String {
    format!("the broker's answer in {MECHANISM} is {what}")
}
