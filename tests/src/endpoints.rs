//! The AWS endpoints that are not ours, and where each differs from AWS. The system knows nothing of these differences; a law that an
//! endpoint breaks is in the table, and must be broken there.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// Who answers in AWS's place; any credentials will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// <https://pypi.org/project/ministack>, started by `tests/services/ministack`.
    Ministack,
    /// LocalStack 4.14 with DynamoDB Local 2.6 and kinesis-mock 0.5, started by `tests/services/localstack`.
    LocalStack,
}

/// What an endpoint does otherwise than AWS.
pub struct Difference {
    /// Who.
    pub at: Endpoint,
    /// The laws' seam: `queue`, `store`, `blobs` or `sink`.
    pub seam: &'static str,
    /// The law that is broken by it; `None` when it breaks none, but proves less than AWS would.
    pub law: Option<&'static str>,
    /// What it does, and what AWS does.
    pub what: &'static str,
}

const fn breaks(at: Endpoint, seam: &'static str, law: &'static str, what: &'static str) -> Difference {
    Difference { at, seam, law: Some(law), what }
}

const fn spares(at: Endpoint, seam: &'static str, what: &'static str) -> Difference {
    Difference { at, seam, law: None, what }
}

/// SQS's answer to a batch with a receipt that is none; AWS says that the sender is at fault.
const NO_FAULT: &str =
    "of a batch with an invalid receipt it says that the sender is not at fault, which means: try again";

/// All that are known.
pub const DIFFERENCES: &[Difference] = &[
    breaks(Endpoint::LocalStack, "queue", "nonsense_receipts_are_no_error", NO_FAULT),
    breaks(Endpoint::LocalStack, "queue", "mixed_settling_does_each", NO_FAULT),
    spares(Endpoint::LocalStack, "queue", "deletes by an older receipt of the same message; AWS may refuse it"),
    spares(Endpoint::LocalStack, "queue", "takes a bad entry of a batch; AWS fails it alone"),
    spares(Endpoint::LocalStack, "store", "deletes nothing that has expired; AWS does within days"),
    spares(Endpoint::LocalStack, "sink", "takes more than 500 records, or more than a MiB a record; AWS refuses both"),
    spares(Endpoint::LocalStack, "sink", "never throttles a shard; AWS does beyond 1 MiB or 1,000 records a second"),
    spares(
        Endpoint::LocalStack,
        "sink",
        "takes two requests of 500 records a second: laws with thousands are Ministack's",
    ),
    spares(Endpoint::Ministack, "queue", "takes a bad entry of a batch; AWS fails it alone"),
    spares(Endpoint::Ministack, "sink", "never throttles a shard; AWS does beyond 1 MiB or 1,000 records a second"),
    spares(Endpoint::Ministack, "sink", "loses records when shards are split or merged; AWS keeps them"),
];

impl Endpoint {
    /// The variable that says where it listens.
    pub fn variable(self) -> &'static str {
        match self {
            Endpoint::Ministack => "STREAMMANAGER_TEST_AWS",
            Endpoint::LocalStack => "STREAMMANAGER_TEST_LOCALSTACK",
        }
    }

    /// Its URL, where it runs.
    pub fn url(self) -> Option<String> {
        super::set(self.variable())
    }

    /// Its URL; `None`, and said so, where it does not run.
    pub fn url_for(self, what: &str) -> Option<String> {
        let url = self.url();
        if url.is_none() {
            super::skip(&format!("{what} on {self:?}"), &format!("{} is not set", self.variable()));
        }
        url
    }

    /// Keeps a law of `seam`; where the table says that this endpoint breaks it, makes sure that it still does.
    ///
    /// # Panics
    /// When the law is broken, or kept although the table says otherwise.
    pub async fn keeps(self, seam: &str, law: &str, keeping: impl Future<Output = ()>) {
        let differs =
            |difference: &&Difference| difference.at == self && difference.seam == seam && difference.law == Some(law);
        match DIFFERENCES.iter().find(differs) {
            None => keeping.await,
            Some(Difference { what, .. }) => {
                let broken = AssertUnwindSafe(keeping).catch_unwind().await.is_err();
                assert!(broken, "{self:?} keeps {seam}'s {law}: take it out of the table, where it stands for: {what}");
            }
        }
    }
}
