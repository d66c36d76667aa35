//! SASL/OAUTHBEARER (RFC 7628): one message with a token, and none in answer when the broker takes it.

use kafka_protocol::messages::SaslAuthenticateResponse;

use super::sasl::Dialogue;
use crate::sink::kafka::login::{Token, Tokens};

pub(super) const MECHANISM: &str = "OAUTHBEARER";
/// What ends the exchange when the broker has said why it does not take the token.
const HEARD: &str = "\u{1}";

/// # Errors
/// Why the broker does not take the token, or why there is none.
pub(super) async fn log_in(tokens: &Tokens, dialogue: &Dialogue<'_>) -> Result<SaslAuthenticateResponse, String> {
    let token = tokens.fresh().await?;
    let answer = with(&token, dialogue).await;
    if answer.is_err() {
        tokens.forget();
    }
    answer
}

async fn with(token: &Token, dialogue: &Dialogue<'_>) -> Result<SaslAuthenticateResponse, String> {
    // A signature of a wrong time is refused like one of somebody else.
    let told = || {
        let (holder, made) = (&token.holder, token.made.strftime("%Y-%m-%dT%H:%M:%SZ"));
        format!("{holder} in with a token made at {made}, if this host's clock is right")
    };
    let answer = dialogue.say(format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.text.0), told).await?;
    if answer.auth_bytes.is_empty() {
        return Ok(answer);
    }
    let why = String::from_utf8_lossy(&answer.auth_bytes).into_owned();
    dialogue.say(HEARD.into(), told).await?;
    Err(dialogue.refused(&told(), &why))
}
