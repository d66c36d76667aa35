//! A double of any host for tests: pages by their paths, with validators, faults, and what it was asked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use streammanager::upstream::{Request, Response, Unreachable, Upstream};

/// What befalls every answer whose path begins with a test's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageFault {
    /// Another status, with this body.
    Status(u16, &'static str),
    /// 429 with so many seconds to wait.
    Busy(u32),
    /// No answer in time.
    Silent,
    /// The first part of the body.
    Short,
    /// Another body under the status 200.
    Says(&'static str),
}

/// The double.
#[derive(Debug, Default)]
pub struct Pages {
    pages: Mutex<BTreeMap<String, Bytes>>,
    fault: Mutex<Option<(String, PageFault)>>,
    asked: Mutex<Vec<(String, u16)>>,
}

impl Pages {
    /// Puts a page there, or another one in its place. A path may end with `*`: it then stands for all that begin so.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.pages.lock().insert(path.to_owned(), body.into());
    }

    /// What befalls the paths that begin so; `None`: nothing any more.
    pub fn fails(&self, fault: Option<(&str, PageFault)>) {
        *self.fault.lock() = fault.map(|(path, fault)| (path.to_owned(), fault));
    }

    /// Paths and statuses since the last call.
    pub fn asked(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut self.asked.lock())
    }

    fn page(&self, path: &str) -> Option<Bytes> {
        let pages = self.pages.lock();
        let begins = |pattern: &str| pattern.strip_suffix('*').is_some_and(|begin| path.starts_with(begin));
        let found = pages.get(path).or_else(|| pages.iter().find(|(pattern, _)| begins(pattern)).map(|(_, body)| body));
        found.cloned()
    }

    fn answer(&self, request: &Request, path: &str) -> Option<Response> {
        let fault = self.fault.lock().clone().filter(|(of, _)| path.starts_with(of)).map(|(_, fault)| fault);
        let answer = |status, headers: &[(&str, String)], body: Bytes| {
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            Some(Response { status, headers, body, elapsed: Duration::ZERO })
        };
        match fault {
            Some(PageFault::Silent) => return None,
            Some(PageFault::Status(status, body)) => return answer(status, &[], Bytes::from_static(body.as_bytes())),
            Some(PageFault::Says(body)) => return answer(200, &[], Bytes::from_static(body.as_bytes())),
            Some(PageFault::Busy(seconds)) => {
                return answer(429, &[("retry-after", seconds.to_string())], Bytes::from_static(b"slow down"));
            }
            Some(PageFault::Short) | None => {}
        }
        let Some(body) = self.page(path) else { return answer(404, &[], Bytes::from_static(b"not there")) };
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let tag = format!("\"{:x}\"", hasher.finish());
        if request.headers.iter().any(|(name, value)| name == "if-none-match" && *value == tag) {
            return answer(304, &[], Bytes::new());
        }
        let body = if fault.is_some() { body.slice(..body.len() * 2 / 3) } else { body };
        answer(200, &[("etag", tag)], body)
    }
}

#[async_trait]
impl Upstream for Pages {
    async fn call(&self, request: &Request, within: Duration) -> Result<Response, Unreachable> {
        let url = request.url.reveal();
        let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        let answer = self.answer(request, &path);
        self.asked.lock().push((path, answer.as_ref().map_or(0, |response| response.status)));
        match answer {
            Some(response) => Ok(response),
            None => {
                tokio::time::sleep(within).await;
                Err(Unreachable::TimedOut(within))
            }
        }
    }
}
