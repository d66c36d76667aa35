//! SASL/SCRAM-SHA-512 (RFC 5802) as Kafka speaks it: user and password are taken as their bytes, without SASLprep, because
//! brokers take them so.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_protocol::messages::SaslAuthenticateResponse;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use super::sasl::Dialogue;
use crate::sink::kafka::settings::Password;
use crate::time::Rng;

pub(super) const MECHANISM: &str = "SCRAM-SHA-512";
/// What Kafka allows. With fewer, whoever listens finds a password quickly; the most keep this thread busy for some 20 ms.
const ITERATIONS: RangeInclusive<u32> = 4_096..=16_384;

/// A user, known by a password.
pub(super) struct User {
    name: String,
    password: Password,
    rng: Rng,
}

impl User {
    /// # Errors
    /// When the operating system has no randomness.
    pub(super) fn new(name: &str, password: &Password) -> Result<User, String> {
        Ok(User { name: name.to_owned(), password: password.clone(), rng: Rng::from_os()? })
    }

    /// For people: who this is, and which settings say so.
    pub(super) fn told(&self) -> String {
        format!("the user {:?} in (KAFKA_USER, KAFKA_PASSWORD)", self.name)
    }

    /// # Errors
    /// Why the broker does not let us in, or does not prove that it knows us.
    pub(super) async fn log_in(&self, dialogue: &Dialogue<'_>) -> Result<SaslAuthenticateResponse, String> {
        let told = || self.told();
        let exchange = Exchange::new(SHA512, &self.name, &STANDARD.encode(self.rng.bytes::<24>()));
        let challenge = dialogue.say(format!("n,,{}", exchange.bare), told).await?.auth_bytes;
        let (proof, signature) = exchange.answer(&self.password.0, &challenge)?;
        let end = dialogue.say(proof, told).await?;
        verify(&end.auth_bytes, signature.as_ref())?;
        Ok(end)
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
