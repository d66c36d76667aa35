//! How the clients of one sink log in, whichever protocol code they have: the tokens of those that have no password, and what
//! all of them know of a broker that does not let them in. What is said to a broker is librdkafka's and `bulk/security`'s.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::consumer::ConsumerContext;
use tokio::sync::watch;
use tokio::time::timeout;

use super::settings::Password;
use crate::time::{Clock, Timestamp};

/// One that is not made by then has failed: a thread of librdkafka's waits for it, and with it the reports of what its client has sent.
const MAKING: Duration = Duration::from_secs(10);
/// Whoever logs in tries several times a second, and a token may cost a call of AWS or a program's start: one that could not be made
/// is not asked for again sooner, nor one that was refused made anew, by the same credentials as it would be.
const AGAIN: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(1), SignedDuration::from_secs(10));

/// What logs in instead of a user and a password (SASL/OAUTHBEARER).
#[derive(Debug, Clone)]
pub struct Token {
    /// As the broker wants it; never shown.
    pub text: Password,
    /// Whose it is, for people.
    pub holder: String,
    /// When it was made.
    pub made: Timestamp,
    /// From then on no broker takes it.
    pub expires: Timestamp,
}

/// What became of the last one that was asked for.
struct Held {
    made: Result<Token, String>,
    at: Timestamp,
}

impl Held {
    /// A token in a third of its time: a session that begins then lasts for the other two. None is before it was made, for
    /// the clock has been set back since, and how old it is nobody knows.
    fn is_fresh(&self, now: Timestamp) -> bool {
        match &self.made {
            Ok(token) => token.made <= now && now < token.made + token.expires.duration_since(token.made) / 3,
            Err(_) => self.at <= now && now < self.at + AGAIN.0,
        }
    }
}

/// Makes tokens.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// One that is made now.
    ///
    /// # Errors
    /// Why there is none, which may pass.
    async fn token(&self, now: Timestamp) -> Result<Token, String>;
}

/// The tokens of one identity, shared by all clients that log in as it.
#[derive(Clone)]
pub struct Tokens {
    source: Arc<dyn TokenSource>,
    clock: Clock,
    held: Arc<Mutex<Option<Held>>>,
    /// Held while one is made: whoever needs it meanwhile waits for that one.
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Tokens {
    /// Those of `source`, by this clock.
    pub fn new(source: Arc<dyn TokenSource>, clock: Clock) -> Tokens {
        Tokens { source, clock, held: Arc::default(), making: Arc::default() }
    }

    /// One that lasts for most of its time yet.
    ///
    /// # Errors
    /// Why there is none, which may pass.
    pub(super) async fn fresh(&self) -> Result<Token, String> {
        if let Some(known) = self.known() {
            return known;
        }
        let _making = self.making.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        let made = timeout(MAKING, self.source.token(self.clock.now())).await;
        let made = made.unwrap_or_else(|_| Err(format!("it is not made within {MAKING:?}")));
        let made = made.map_err(|problem| format!("there is no token to log in: {problem}"));
        self.held.lock().insert(Held { made, at: self.clock.now() }).made.clone()
    }

    /// What became of the last one, while that counts.
    fn known(&self) -> Option<Result<Token, String>> {
        let now = self.clock.now();
        self.held.lock().as_ref().filter(|held| held.is_fresh(now)).map(|held| held.made.clone())
    }

    /// The same on a thread of librdkafka's, which has no runtime.
    fn fresh_here(&self) -> Result<Token, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(self.fresh())
    }

    /// A broker has not taken the last one: whoever it was made for may have other credentials by now.
    pub(super) fn forget(&self) {
        self.held.lock().take_if(|held| self.would_differ(held.at));
    }

    /// Whether a token of now may be another than one of `then`.
    fn would_differ(&self, then: Timestamp) -> bool {
        let now = self.clock.now();
        now < then || then + AGAIN.1 <= now
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Tokens) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

impl Eq for Tokens {}

/// Whether a broker has not let one of a sink's clients in.
#[derive(Clone)]
pub(super) struct Refusal(Arc<watch::Sender<bool>>);

impl Refusal {
    pub(super) fn none() -> Refusal {
        Refusal(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn note(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn forget(&self) {
        self.0.send_replace(false);
    }

    /// Returns when there is one.
    pub(super) async fn noted(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|refused| *refused).await;
    }
}

/// What a client of librdkafka needs in order to log in. It asks for a token when it is made and before one expires, and hears
/// of it when it is polled.
pub struct LoginContext {
    tokens: Option<Tokens>,
    shown: Mutex<Option<Shown>>,
}

/// The token that a client keeps, for most of its time.
struct Shown {
    given: Timestamp,
    /// Told once: librdkafka repeats no error for half a minute.
    refused: bool,
}

impl LoginContext {
    pub(super) fn new(tokens: Option<&Tokens>) -> LoginContext {
        LoginContext { tokens: tokens.cloned(), shown: Mutex::default() }
    }

    /// A broker has not let us in.
    pub(super) fn note_refusal(&self) {
        if let Some(shown) = &mut *self.shown.lock() {
            shown.refused = true;
        }
    }

    /// Whether the client shows a refused token and another one would show another.
    pub(super) fn is_stale(&self) -> bool {
        let Some(tokens) = &self.tokens else { return false };
        let is_stale = self.shown.lock().as_ref().is_some_and(|it| it.refused && tokens.would_differ(it.given));
        if is_stale {
            tokens.forget();
        }
        is_stale
    }

    /// # Errors
    /// Why there is no token.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self.tokens.as_ref().ok_or("these brokers are not spoken to with tokens")?;
        let token = tokens.fresh_here()?;
        *self.shown.lock() = Some(Shown { given: tokens.clock.now(), refused: false });
        let lifetime_ms = token.expires.as_millisecond();
        Ok(OAuthToken { token: token.text.0, principal_name: token.holder, lifetime_ms })
    }
}

impl ClientContext for LoginContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

impl ConsumerContext for LoginContext {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Makes tokens of 15 minutes, each with the next number, but for those that are to fail.
    struct Numbered {
        made: AtomicUsize,
        fails: fn(usize) -> bool,
    }

    #[async_trait]
    impl TokenSource for Numbered {
        async fn token(&self, now: Timestamp) -> Result<Token, String> {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            if (self.fails)(number) {
                return Err("the credentials cannot be read".into());
            }
            let expires = now + SignedDuration::from_secs(900);
            Ok(Token { text: Password::new(number.to_string()), holder: "test".into(), made: now, expires })
        }
    }

    fn numbered(fails: fn(usize) -> bool, clock: Clock) -> Tokens {
        Tokens::new(Arc::new(Numbered { made: AtomicUsize::new(0), fails }), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_token_is_made_anew_long_before_it_expires_after_a_refusal_and_when_the_clock_is_set_back() {
        let (clock, wall) = Clock::settable("2026-11-30T12:00:00Z".parse().unwrap());
        let tokens = numbered(|_| false, clock);
        let number = async || tokens.fresh().await.unwrap().text.0;
        assert_eq!(number().await, "0");
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(number().await, "0");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(number().await, "1", "a session of at least ten minutes");
        wall.step(-1);
        assert_eq!(number().await, "2", "how old it is nobody knows");
        tokens.forget();
        assert_eq!(number().await, "2", "so soon it would be the same");
        tokio::time::advance(Duration::from_secs(10)).await;
        tokens.forget();
        assert_eq!((number().await, number().await), ("3".into(), "3".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_token_that_cannot_be_made_is_asked_for_again() {
        let tokens = numbered(|number| number == 0, Clock::simulated(Timestamp::UNIX_EPOCH));
        for _ in 0..2 {
            let problem = tokens.fresh().await.unwrap_err();
            assert_eq!(problem, "there is no token to log in: the credentials cannot be read");
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tokens.fresh().await.unwrap().text.0, "1");
    }

    /// Each takes this long, and is counted when it is begun.
    struct Slow(AtomicUsize, Duration);

    #[async_trait]
    impl TokenSource for Slow {
        async fn token(&self, now: Timestamp) -> Result<Token, String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.1).await;
            numbered(|_| false, Clock::system()).source.token(now).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn k1_a_token_is_made_once_for_all_who_need_it_and_one_that_is_never_made_has_failed() {
        for (takes, is_made) in [(9, true), (11, false)] {
            let source = Arc::new(Slow(AtomicUsize::new(0), Duration::from_secs(takes)));
            let tokens = Tokens::new(source.clone(), Clock::simulated(Timestamp::UNIX_EPOCH));
            let made = futures::future::join_all((0..5).map(|_| tokens.fresh())).await;
            assert!(made.iter().all(|made| made.is_ok() == is_made), "{made:?}");
            assert!(made.iter().flat_map(|made| made.as_ref().err()).all(|problem| problem.contains("within 10s")));
            assert_eq!(source.0.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn a6_a_token_is_never_shown() {
        let clock = Clock::system();
        let tokens = numbered(|_| false, clock.clone());
        let token =
            Token { text: Password::new("hunter2"), holder: "AKID".into(), made: clock.now(), expires: clock.now() };
        assert!(!format!("{token:?} {tokens:?}").contains("hunter2"));
    }
}
