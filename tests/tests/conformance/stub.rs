//! An AWS endpoint that answers as it is told: with canned responses, as the real one, or not at all although the real one
//! did what was asked. One request a connection, one connection at a time.

use std::sync::Arc;

use parking_lot::Mutex;
use streammanager::aws::Aws;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::worlds::REGION;

#[derive(Clone, Copy)]
pub enum Answer {
    /// Status and body.
    Says(u16, &'static str),
    /// What the real endpoint answers.
    Real,
    /// The real endpoint does it, and its answer is lost.
    Lost,
}

pub struct Stub {
    pub aws: Aws,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Gives the answers one after another, the last one for ever.
    pub async fn answering(answers: &[Answer]) -> Stub {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answers, requests) = (answers.to_vec(), asked.clone());
        tokio::spawn(async move {
            for at in 0.. {
                let (mut connection, _) = listener.accept().await.unwrap();
                let Some((head, body)) = read(&mut connection).await else {
                    requests.lock().push("cut off".into());
                    continue;
                };
                // Before the answer: whoever has it finds the request in the list.
                requests.lock().push(format!("{head}\r\n\r\n{body}"));
                answer(connection, &head, &body, answers[at.min(answers.len() - 1)]).await;
            }
        });
        Stub { aws: Aws::connect(Some(&endpoint), REGION).await, asked }
    }

    /// Every request so far, head and body.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

/// Head and body of a request; `None` when it ends early.
async fn read(connection: &mut TcpStream) -> Option<(String, String)> {
    let mut request = Vec::new();
    loop {
        if connection.read_buf(&mut request).await.unwrap() == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

async fn answer(mut connection: TcpStream, head: &str, body: &str, answer: Answer) {
    let response = match answer {
        Answer::Says(status, body) => {
            format!("HTTP/1.1 {status} As told\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
                .into()
        }
        Answer::Real => forward(head, body).await,
        Answer::Lost => {
            forward(head, body).await;
            Vec::new()
        }
    };
    connection.write_all(&response).await.unwrap();
}

async fn forward(head: &str, body: &str) -> Vec<u8> {
    let endpoint = streammanager_tests::aws().expect("tests with a real endpoint ask for it first");
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await.unwrap();
    response
}
