//! What every upstream must do, as laws over the trait. Waiting is tokio's, so that a paused clock serves a scripted one.
//! Nothing here knows an implementation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Request, Response, SecretUrl, Unreachable, Upstream};

/// What an upstream under test takes at most, in bytes.
pub const LARGEST: usize = 64 * 1024;
/// Time that an answer may take where its lateness is not the matter.
const AMPLE: Duration = Duration::from_secs(10);
const SECRET: &str = "s3cr3t-k3y";

/// What the other side answers to whatever it is asked.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, sent as they are.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body; larger than [`LARGEST`] it must be refused.
    pub body: Bytes,
    /// Silence before the answer.
    pub after: Duration,
}

/// An upstream with an other side.
pub struct Served {
    /// The implementation, with which the law calls the other side.
    pub upstream: Arc<dyn Upstream>,
    /// Where the other side is: `http://HOST:PORT`.
    pub base: String,
}

/// An implementation under test.
#[async_trait]
pub trait TestUpstream: Send + Sync {
    /// Another side that gives this answer to every request.
    async fn answering(&self, answer: Answer) -> Served;

    /// Nobody is at the address.
    async fn nobody(&self) -> Served;

    /// The path and the headers of the last request as the other side saw them, names in lower case.
    async fn asked(&self) -> (String, Vec<(String, String)>);
}

/// Runs every law.
pub async fn run(world: &dyn TestUpstream) {
    answers_come_back_whole_whatever_their_status(world).await;
    the_request_arrives_as_written(world).await;
    a_late_answer_is_timed_out(world).await;
    what_is_too_large_is_refused(world).await;
    a_redirect_is_an_answer_and_not_followed(world).await;
    an_error_never_shows_the_secret(world).await;
}

fn request(base: &str, path: &str) -> Request {
    Request { url: SecretUrl::new(format!("{base}{path}"), Some(SECRET)), headers: Vec::new() }
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Answer { status, headers: Vec::new(), body: body.into(), after: Duration::ZERO }
}

async fn get(world: &dyn TestUpstream, answer: Answer) -> Result<Response, Unreachable> {
    let served = world.answering(answer).await;
    served.upstream.call(&request(&served.base, "/x"), AMPLE).await
}

async fn answers_come_back_whole_whatever_their_status(world: &dyn TestUpstream) {
    for status in [200, 400, 403, 429, 500, 503] {
        let body = Bytes::from_static(b"latitude,longitude\n\xff\0\n");
        let headers = vec![("ETag", "\"a\""), ("Retry-After", "30")];
        let response = get(world, Answer { headers, ..answer(status, body.clone()) }).await.expect("an answer");
        assert_eq!((response.status, &response.body), (status, &body));
        assert_eq!((response.header("etag"), response.header("retry-after")), (Some("\"a\""), Some("30")));
    }
    assert_eq!(get(world, answer(304, "")).await.map(|r| (r.status, r.body.len())), Ok((304, 0)));
}

async fn the_request_arrives_as_written(world: &dyn TestUpstream) {
    let served = world.answering(answer(200, "")).await;
    let path = format!("/api/area/csv/{SECRET}/MODIS_NRT/-124.5,32.5,-114.1,42.1/1");
    let headers = vec![("if-none-match".to_owned(), "\"a\"".to_owned())];
    let request = Request { headers: headers.clone(), ..request(&served.base, &path) };
    served.upstream.call(&request, AMPLE).await.expect("an answer");
    let (seen, sent) = world.asked().await;
    assert_eq!(seen, path, "commas stay literal");
    assert!(sent.contains(&headers[0]), "{sent:?}");
}

async fn a_late_answer_is_timed_out(world: &dyn TestUpstream) {
    let within = Duration::from_millis(200);
    let served = world.answering(Answer { after: AMPLE, ..answer(200, "late") }).await;
    let outcome = served.upstream.call(&request(&served.base, "/x"), within).await;
    assert_eq!(outcome, Err(Unreachable::TimedOut(within)));
}

async fn what_is_too_large_is_refused(world: &dyn TestUpstream) {
    let body = |bytes| Bytes::from(vec![b'x'; bytes]);
    assert_eq!(get(world, answer(200, body(LARGEST))).await.map(|r| r.body.len()), Ok(LARGEST));
    assert_eq!(get(world, answer(200, body(LARGEST + 1))).await, Err(Unreachable::TooLarge(LARGEST)));
}

/// A redirect could carry the key in the path to another host.
async fn a_redirect_is_an_answer_and_not_followed(world: &dyn TestUpstream) {
    let headers = vec![("Location", "/elsewhere")];
    let response = get(world, Answer { headers, ..answer(302, "") }).await.expect("an answer");
    assert_eq!((response.status, response.header("location")), (302, Some("/elsewhere")));
    assert_eq!(world.asked().await.0, "/x");
}

async fn an_error_never_shows_the_secret(world: &dyn TestUpstream) {
    let served = world.nobody().await;
    let outcome = served.upstream.call(&request(&served.base, &format!("/{SECRET}/x")), AMPLE).await;
    let Err(problem @ Unreachable::Failed(_)) = outcome else { panic!("nobody answered {outcome:?}") };
    assert!(!format!("{problem} {problem:?}").contains(SECRET), "{problem}");
}
