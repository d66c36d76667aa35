//! Time and randomness as arguments. The only ambient reads are in `Clock::system` and `Rng::from_os`; everything else
//! is banned by clippy, so that a paused clock and a seed decide a run.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use jiff::SignedDuration;
pub use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rand::rngs::{StdRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};
use serde::Serializer;
use ulid::Ulid;

/// Where "now" comes from. Sleeping is tokio's, so that its paused clock rules both.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The host's clock.
    #[allow(clippy::disallowed_methods)] // the one place where the ambient clock is read
    pub fn system() -> Clock {
        Clock(Arc::new(Timestamp::now))
    }

    /// Follows tokio's clock from `start`: paused and advanced with it.
    pub fn simulated(start: Timestamp) -> Clock {
        Clock::settable(start).0
    }

    /// As [`Clock::simulated`], and it can be set, as an operator or a time server sets a host's clock.
    pub fn settable(start: Timestamp) -> (Clock, WallClock) {
        let (origin, wall) = (tokio::time::Instant::now(), WallClock::default());
        let offset = wall.0.clone();
        let now = move || start + origin.elapsed() + SignedDuration::from_secs(*offset.lock());
        (Clock(Arc::new(now)), wall)
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Time passed since `then`; zero when the clock stepped back.
    pub fn since(&self, then: Timestamp) -> Duration {
        Duration::try_from(self.now().duration_since(then)).unwrap_or(Duration::ZERO)
    }
}

/// How far a settable clock was moved, in seconds.
#[derive(Clone, Debug, Default)]
pub struct WallClock(Arc<Mutex<i64>>);

impl WallClock {
    /// Moves the clock forward, or back; what is waited for is not touched.
    pub fn step(&self, seconds: i64) {
        *self.0.lock() += seconds;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Seeded randomness, shared by clones.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<Draws>>);

#[derive(Debug)]
struct Draws {
    rng: StdRng,
    last: Ulid,
}

impl Rng {
    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Rng {
        Rng::of(StdRng::seed_from_u64(seed))
    }

    /// Seeded from the operating system, for `main`.
    pub fn from_os() -> Result<Rng, String> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed).map_err(|e| format!("no randomness from the operating system: {e}"))?;
        Ok(Rng::of(StdRng::from_seed(seed)))
    }

    fn of(rng: StdRng) -> Rng {
        Rng(Arc::new(Mutex::new(Draws { rng, last: Ulid::nil() })))
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        self.with(|state| state.rng.random())
    }

    /// A sortable id for something made at `now`; greater than every one before, also within a millisecond and when the
    /// clock stepped back.
    pub fn ulid(&self, now: Timestamp) -> Ulid {
        self.with(|state| {
            let fresh = Ulid::from_parts(now.as_millisecond().unsigned_abs(), state.rng.random());
            let next = || state.last.increment().unwrap_or(fresh);
            state.last = if fresh.timestamp_ms() > state.last.timestamp_ms() { fresh } else { next() };
            state.last
        })
    }

    /// Ids made from now on are greater than any made by `at`, whatever the clock says: they go on where another process
    /// ended.
    pub fn ids_after(&self, at: Timestamp) {
        let floor = Ulid::from_parts(at.as_millisecond().unsigned_abs() + 1, 0);
        self.with(|state| state.last = state.last.max(floor));
    }

    /// `base` lengthened by up to a quarter, so that waiters do not come back together.
    pub fn jitter(&self, base: Duration) -> Duration {
        base + base.mul_f64(self.with(|state| state.rng.random_range(0.0..0.25)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Draws) -> T) -> T {
        draw(&mut self.0.lock())
    }
}

const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// RFC 3339 in UTC with `Z` and milliseconds [K5].
pub fn rfc3339(at: Timestamp) -> String {
    MILLISECONDS.timestamp_to_string(&at)
}

/// [`rfc3339`] without an allocation: every record is written with several times.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeText {
    /// The longest one, of a year before 0, has 27 bytes.
    bytes: [u8; 32],
    length: usize,
}

/// Times whose texts a thread knows, by their second.
const KNOWN: usize = 8;

thread_local! {
    static LAST: RefCell<[(Timestamp, TimeText); KNOWN]> =
        const { RefCell::new([(Timestamp::UNIX_EPOCH, TimeText { bytes: [0; 32], length: 0 }); KNOWN]) };
}

impl TimeText {
    /// The text of a time. Neighbours share theirs, and each is asked for several times: the last ones are known.
    pub fn of(at: Timestamp) -> TimeText {
        let place = (at.as_millisecond() / 1_000) as usize % KNOWN;
        LAST.with_borrow_mut(|last| {
            let (of, text) = &mut last[place];
            if *of != at || text.length == 0 {
                (*of, *text) = (at, TimeText::default());
                // It has room for every time that there is.
                let _ = MILLISECONDS.print_timestamp(&at, &mut *text);
            }
            *text
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl jiff::fmt::Write for TimeText {
    fn write_str(&mut self, more: &str) -> Result<(), jiff::Error> {
        let end = self.length + more.len();
        let room = self.bytes.get_mut(self.length..end);
        room.ok_or_else(|| jiff::Error::from_args(format_args!("a time has no more than 32 bytes")))?
            .copy_from_slice(more.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Serialises a time as [`rfc3339`].
pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(TimeText::of(*at).as_str())
}

/// As [`serialize`], for a time that may be absent.
pub fn serialize_optional<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serialize(at, serializer),
        None => serializer.serialize_none(),
    }
}
