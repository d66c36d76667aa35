//! The HTTP upstream against a small server of our own: the upstream's laws, and what only HTTP has [S11, A6].

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use streammanager::upstream::conformance::{self, Answer, LARGEST, Served, TestUpstream};
use streammanager::upstream::http::HttpUpstream;
use streammanager::upstream::{Request, SecretUrl, Unreachable, Upstream};
use streammanager_tests::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Server {
    /// The last request's head.
    asked: Arc<Mutex<String>>,
}

impl Server {
    /// Sends `head` and `body` as they are to everybody who asks, after a silence.
    async fn serve(&self, head: String, body: Bytes, after: Duration) -> Served {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = self.asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                *asked.lock() = read_head(&mut socket).await;
                tokio::time::sleep(after).await;
                // The client may have hung up: an answer too large, a time limit.
                let _ = socket.write_all(head.as_bytes()).await;
                let _ = socket.write_all(&body).await;
                let _ = socket.shutdown().await;
            }
        });
        let upstream: Arc<dyn Upstream> = Arc::new(HttpUpstream::with_largest(LARGEST).unwrap());
        Served { upstream, base }
    }
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn head(status: u16, headers: &[(&str, &str)], length: usize) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n")
}

#[async_trait::async_trait]
impl TestUpstream for Server {
    async fn answering(&self, answer: Answer) -> Served {
        let head = head(answer.status, &answer.headers, answer.body.len());
        self.serve(head, answer.body, answer.after).await
    }
    async fn nobody(&self) -> Served {
        let base = format!("http://127.0.0.1:{}", free_port());
        Served { upstream: Arc::new(HttpUpstream::new().unwrap()), base }
    }
    async fn asked(&self) -> (String, Vec<(String, String)>) {
        let asked = self.asked.lock().clone();
        let mut lines = asked.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let header = |line: &str| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned()));
        (path, lines.filter_map(header).collect())
    }
}

fn get(base: &str) -> Request {
    Request { url: SecretUrl::new(format!("{base}/s3cr3t/x"), Some("s3cr3t")), headers: Vec::new() }
}

#[tokio::test]
async fn it_keeps_the_laws() {
    conformance::run(&Server::default()).await;
}

#[tokio::test]
async fn a_packed_answer_is_unpacked_and_bounded_unpacked() {
    let server = Server::default();
    let pack = |plain: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(plain).unwrap();
        Bytes::from(packer.finish().unwrap())
    };
    for (plain, fits) in [(LARGEST, true), (64 * LARGEST, false)] {
        let body = pack(&vec![b'x'; plain]);
        assert!(body.len() < LARGEST, "the bound is met by the unpacked size alone");
        let served = server.serve(head(200, &[("content-encoding", "gzip")], body.len()), body, Duration::ZERO).await;
        let outcome = served.upstream.call(&get(&served.base), Duration::from_secs(10)).await;
        if fits {
            assert_eq!(outcome.map(|response| response.body.len()), Ok(plain))
        } else {
            assert_eq!(outcome, Err(Unreachable::TooLarge(LARGEST)))
        }
    }
}

#[tokio::test]
async fn s11_the_user_agent_says_who_asks() {
    let server = Server::default();
    let served = server.serve(head(200, &[], 0), Bytes::new(), Duration::ZERO).await;
    served.upstream.call(&get(&served.base), Duration::from_secs(10)).await.unwrap();
    let (_, headers) = server.asked().await;
    let agent = headers.iter().find(|(name, _)| name == "user-agent").map(|(_, value)| value.as_str());
    assert!(agent.is_some_and(|agent| agent.starts_with("StreamManager/")), "{agent:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stalls_is_no_answer_and_shows_no_secret() {
    let server = Server::default();
    let cut = server.serve(head(200, &[], 100), Bytes::from_static(b"half"), Duration::ZERO).await;
    let outcome = cut.upstream.call(&get(&cut.base), Duration::from_secs(10)).await;
    let Err(Unreachable::Failed(text)) = outcome else { panic!("half an answer was taken: {outcome:?}") };
    assert!(!text.contains("s3cr3t"), "{text}");

    let no_http = server.serve(String::new(), Bytes::from_static(b"s3cr3t? no\r\n\r\n"), Duration::ZERO).await;
    let outcome = no_http.upstream.call(&get(&no_http.base), Duration::from_secs(10)).await;
    let Err(Unreachable::Failed(text)) = outcome else { panic!("no HTTP was taken: {outcome:?}") };
    assert!(!text.contains("s3cr3t"), "{text}");
}
