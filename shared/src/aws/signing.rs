//! Requests to S3 and to an API of one's own on AWS, signed with Signature Version 4.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sqs::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;

use super::{Aws, chain};
use crate::time::Timestamp;

/// API Gateway's name in a signature.
const SERVICE: &str = "execute-api";

/// Who signs, for one region.
pub struct Signer {
    credentials: Credentials,
    region: String,
}

impl Signer {
    pub(super) async fn new(config: &SdkConfig, region: &str) -> Result<Signer, String> {
        Ok(Signer { credentials: found(config).await?, region: region.to_owned() })
    }

    /// Names whose signature it is; no secret.
    pub fn access_key_id(&self) -> &str {
        self.credentials.access_key_id()
    }

    /// The region that a signature is good for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The headers that make `request` a signed one; beside them it has the header `host` that its URL says.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn headers(
        &self,
        method: &str,
        url: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let request = SignableRequest::new(method, url, std::iter::empty(), SignableBody::Bytes(body));
        let scope = Scope { region: &self.region, service: SERVICE, settings: SigningSettings::default() };
        scope.headers(&self.credentials, request.map_err(|e| chain(&e))?, now)
    }
}

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) settings: SigningSettings,
}

impl Scope<'_> {
    /// The headers that make `request` one of whom the credentials are of.
    pub(super) fn headers(
        self,
        credentials: &Credentials,
        request: SignableRequest<'_>,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let (headers, _) = self.sign(credentials, request, now)?.into_parts();
        Ok(headers.iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }

    /// What makes it so, where the settings say that it stands.
    pub(super) fn sign(
        self,
        credentials: &Credentials,
        request: SignableRequest<'_>,
        now: Timestamp,
    ) -> Result<SigningInstructions, String> {
        let identity = credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(at(now))
            .settings(self.settings)
            .build()
            .map_err(|e| chain(&e))?;
        Ok(sign(request, &params.into()).map_err(|e| chain(&e))?.into_parts().0)
    }
}

/// The credentials that this configuration finds, as they are now.
pub(super) async fn found(config: &SdkConfig) -> Result<Credentials, String> {
    let provider = config.credentials_provider().ok_or("there is nothing that provides AWS credentials")?;
    provider.provide_credentials().await.map_err(|e| chain(&e))
}

/// As the SDK has times.
pub(super) fn at(now: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(now.as_nanosecond().try_into().unwrap_or_default())
}

impl Aws {
    /// Signs as the credentials say that the SDK finds: those of the environment, of the profile that `AWS_PROFILE` names.
    ///
    /// # Errors
    /// When it finds none, in its own words.
    pub async fn signer(&self, region: &str) -> Result<Signer, String> {
        Signer::new(&self.config, region).await
    }
}
