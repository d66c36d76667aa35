//! Faults for tests: an implementation of a seam wrapped so that its calls fail as told, by script or by seed. What a
//! failing call of each seam looks like stands in the file named after it.

pub mod arcgis;
mod blobs;
mod queue;
pub mod sink;
mod store;
pub mod upstream;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::error::BackendError;
use crate::time::Rng;

/// What befalls one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is done as usual.
    None,
    /// Not done: `Retry`.
    Before,
    /// Done, but the answer is lost: `Retry`.
    After,
    /// Done, later than asked.
    Late(Duration),
    /// Of a batch of sends every second message is not taken; other calls know no part.
    Part,
}

/// Shares of 256 of the calls that fail by seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shares {
    /// Calls that are not done.
    pub before: u8,
    /// Calls that are done and whose answer is lost.
    pub after: u8,
    /// Calls that are done for every second message.
    pub part: u8,
}

/// Says what befalls the next call; clones are the same, so that several seams fail by one script.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Planned>>);

#[derive(Default)]
struct Planned {
    script: VecDeque<Fault>,
    seeded: Option<(Rng, Shares)>,
    out: bool,
    injected: u64,
}

impl Faults {
    /// No call fails.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// What befalls the next calls, one each; the seed's share comes after them.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults);
    }

    /// From now on a share of the calls fails, drawn from `rng`.
    pub fn seed(&self, rng: Rng, shares: Shares) {
        self.state().seeded = Some((rng, shares));
    }

    /// While out, no call is done.
    pub fn outage(&self, out: bool) {
        self.state().out = out;
    }

    /// No faults from now on.
    pub fn quiet(&self) {
        let mut state = self.state();
        *state = Planned { injected: state.injected, ..Planned::default() };
    }

    /// How many calls failed or were late so far.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    fn next(&self) -> Fault {
        let mut state = self.state();
        let fault = match (state.out, state.script.pop_front(), &state.seeded) {
            (true, _, _) => Fault::Before,
            (false, Some(fault), _) => fault,
            (false, None, None) => Fault::None,
            (false, None, Some((rng, shares))) => {
                let [drawn] = rng.bytes();
                let upto = |share: u16| u16::from(drawn) < share;
                let [before, after, part] = [shares.before, shares.after, shares.part].map(u16::from);
                match () {
                    () if upto(before) => Fault::Before,
                    () if upto(before + after) => Fault::After,
                    () if upto(before + after + part) => Fault::Part,
                    () => Fault::None,
                }
            }
        };
        state.injected += u64::from(fault != Fault::None);
        fault
    }

    fn state(&self) -> MutexGuard<'_, Planned> {
        self.0.lock()
    }
}

/// `inner` with faults.
#[derive(Clone)]
pub struct Faulty<T> {
    /// What really does the calls that do not fail.
    pub inner: T,
    /// What befalls the next calls.
    pub faults: Faults,
}

impl<T> Faulty<T> {
    /// `inner`, failing as `faults` says.
    pub fn new(inner: T, faults: Faults) -> Faulty<T> {
        Faulty { inner, faults }
    }

    pub(crate) async fn call<A, E: From<BackendError>>(
        &self,
        what: &str,
        done: impl Future<Output = Result<A, E>>,
    ) -> Result<A, E> {
        let fault = self.faults.next();
        self.befall(fault, what, done).await
    }

    /// As `call`, for those that can fail in part: `true` when this one does.
    pub(crate) async fn call_in_part<A, E: From<BackendError>, F: Future<Output = Result<A, E>>>(
        &self,
        what: &str,
        done: impl FnOnce(bool) -> F,
    ) -> Result<A, E> {
        let fault = self.faults.next();
        self.befall(fault, what, done(fault == Fault::Part)).await
    }

    async fn befall<A, E: From<BackendError>>(
        &self,
        fault: Fault,
        what: &str,
        done: impl Future<Output = Result<A, E>>,
    ) -> Result<A, E> {
        match fault {
            Fault::None | Fault::Part => done.await,
            Fault::Before => Err(BackendError::Retry(format!("{what}: injected, not done")).into()),
            Fault::After => {
                done.await?;
                Err(BackendError::Retry(format!("{what}: injected, the answer is lost")).into())
            }
            Fault::Late(by) => {
                sleep(by).await;
                done.await
            }
        }
    }
}
