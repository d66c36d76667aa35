//! Tokens that MSK's brokers take (IAM access control, by SASL/OAUTHBEARER): a URL that an identity of AWS has signed with Signature
//! Version 4, which asks to connect and is good for a quarter of an hour, in base64url without padding. It is signed here: nobody is
//! asked for it but whoever has the credentials.

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use jiff::SignedDuration;

use super::signing::Scope;
use super::{Aws, chain, signing};
use crate::sink::kafka::{Password, Token, TokenSource};
use crate::time::Timestamp;

/// MSK's brokers in a signature.
const SERVICE: &str = "kafka-cluster";
const ACTION: (&str, &str) = ("Action", "kafka-cluster:Connect");
/// What MSK takes at the most.
const LIFETIME: Duration = Duration::from_secs(900);
/// Behind the signature, for whoever reads MSK's logs.
const AGENT: (&str, &str) = ("User-Agent", concat!("streammanager/", env!("CARGO_PKG_VERSION")));

/// Signs as whoever the credentials are of, for clusters of one region.
pub struct MskTokens {
    region: String,
    /// `None`: looked for anew for each token, since a profile that was wrong may have been mended.
    credentials: Option<SharedCredentialsProvider>,
}

impl MskTokens {
    /// Credentials come from where the SDK looks for them: a function's role, the profile that `AWS_PROFILE` names.
    pub fn found_by_the_sdk(region: &str) -> MskTokens {
        MskTokens { region: region.to_owned(), credentials: None }
    }

    /// With these credentials, as they are provided at each time.
    pub fn provided(region: &str, credentials: SharedCredentialsProvider) -> MskTokens {
        MskTokens { region: region.to_owned(), credentials: Some(credentials) }
    }
}

#[async_trait]
impl TokenSource for MskTokens {
    async fn token(&self, now: Timestamp) -> Result<Token, String> {
        let provided = match &self.credentials {
            Some(provider) => provider.provide_credentials().await.map_err(|e| chain(&e)),
            None => signing::found(Aws::connect(None, &self.region).await.config()).await,
        };
        signed(&provided?, &self.region, now)
    }
}

/// The token of these credentials at this time.
///
/// # Errors
/// When they have expired.
fn signed(credentials: &Credentials, region: &str, now: Timestamp) -> Result<Token, String> {
    let at = signing::at(now);
    let left = credentials.expiry().map_or(LIFETIME, |ends| ends.duration_since(at).unwrap_or_default());
    if left.is_zero() {
        return Err(format!("the credentials of {} have expired", credentials.access_key_id()));
    }
    let url = |parameters: &[(&str, &str)]| {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        format!("https://kafka.{region}.amazonaws.com/?{query}")
    };
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let asked = url(&[ACTION]);
    let request = SignableRequest::new("GET", asked, std::iter::empty(), SignableBody::Bytes(b""));
    let scope = Scope { region, service: SERVICE, settings };
    let (_, proof) = scope.sign(credentials, request.map_err(|e| chain(&e))?, now)?.into_parts();
    let mut parameters = vec![ACTION];
    parameters.extend(proof.iter().map(|(name, value)| (*name, value.as_ref())));
    parameters.push(AGENT);
    // The signature names its time in whole seconds.
    let made = Timestamp::from_second(now.as_second()).map_err(|e| e.to_string())?;
    Ok(Token {
        text: Password::new(URL_SAFE_NO_PAD.encode(url(&parameters))),
        holder: format!("the AWS access key {}", credentials.access_key_id()),
        made,
        expires: made + SignedDuration::try_from(LIFETIME.min(left)).unwrap_or_default(),
    })
}
