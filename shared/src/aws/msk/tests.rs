//! The tokens beside those of AWS's own signer, from the same credentials at the same times.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use serde::Deserialize;

use super::*;

/// What `vectors.py` printed.
#[derive(Deserialize)]
struct Vector {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    region: String,
    at: Timestamp,
    token: String,
    expires_ms: i64,
}

impl Vector {
    fn all() -> Vec<Vector> {
        serde_json::from_str(include_str!("vectors.json")).unwrap()
    }

    fn credentials(&self, expire: Option<SystemTime>) -> Credentials {
        Credentials::new(&self.access_key, &self.secret_key, self.session_token.clone(), expire, "test")
    }

    async fn signed(&self, now: Timestamp, expire: Option<SystemTime>) -> Result<Token, String> {
        let provider = SharedCredentialsProvider::new(self.credentials(expire));
        MskTokens::provided(&self.region, provider).token(now).await
    }
}

/// Where it goes, and its parameters: in which order they stand says nothing, and only the last one is not signed.
fn read(token: &str) -> (String, BTreeMap<String, String>) {
    let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    let (place, query) = url.split_once('?').unwrap();
    let all: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    assert_eq!(all.last().unwrap().0, "User-Agent");
    (place.to_owned(), all[..all.len() - 1].iter().cloned().collect())
}

#[tokio::test]
async fn k1_a_token_is_that_of_aws_s_own_signer() {
    for vector in Vector::all() {
        let token = vector.signed(vector.at, None).await.unwrap();
        assert_eq!(read(&token.text.0), read(&vector.token), "{} {}", vector.region, vector.at);
        assert_eq!(token.expires.as_millisecond(), vector.expires_ms);
        assert_eq!((token.made, token.holder), (vector.at, "the AWS access key AKIDEXAMPLE".into()));
    }
}

/// A fraction of a second is not in the signature, so that it is no time of the token either.
#[tokio::test]
async fn k1_a_token_ends_with_its_credentials_and_not_after_its_signature() {
    let vector = &Vector::all()[1];
    let later = vector.at + SignedDuration::from_millis(999);
    assert_eq!(vector.signed(later, None).await.unwrap().expires.as_millisecond(), vector.expires_ms);
    let ends = |seconds| Some(signing::at(vector.at + SignedDuration::from_secs(seconds)));
    let lasts = async |seconds| vector.signed(vector.at, ends(seconds)).await.map(|token| token.expires);
    assert_eq!(lasts(3_600).await.unwrap().as_millisecond(), vector.expires_ms);
    assert_eq!(lasts(60).await.unwrap(), vector.at + SignedDuration::from_secs(60));
    let problem = lasts(0).await.unwrap_err();
    assert_eq!(problem, "the credentials of AKIDEXAMPLE have expired");
}

#[derive(Debug)]
struct Away;

impl ProvideCredentials for Away {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no profile \"fire\"")))
    }
}

#[tokio::test]
async fn k1_without_credentials_there_is_no_token_and_the_sdk_says_why() {
    let tokens = MskTokens::provided("us-west-2", SharedCredentialsProvider::new(Away));
    let problem = tokens.token(Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(problem.contains("no profile \"fire\""), "{problem}");
}
