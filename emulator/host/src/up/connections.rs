//! The connections of the HTTP API: who has a place, and for how long. A connection that waits, whether for a request, for
//! its client to take an answer or for nothing at all, holds one of many places and is the first to go when others come; so
//! nobody keeps an alert out by holding connections open. What a request means is in `http`.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use streammanager_mqtt_endpoint::places::{Place, Places};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{ACCEPT_PAUSE, HTTP_ANSWER_TIME, HTTP_HEAD_TIME, HTTP_LAST_ANSWERS};

/// The other end of a connection, and its place while it waits.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) from: SocketAddr,
    pub(crate) place: Arc<Place>,
}

/// Serves until `stop`, with so many connections waiting, and then for a moment the answers under way.
pub(crate) async fn serve(router: Router, listener: TcpListener, waiting: usize, stop: CancellationToken) {
    let (places, connections) = (Places::new(waiting, std::time::Duration::ZERO), TaskTracker::new());
    loop {
        let (socket, from) = match stop.run_until_cancelled(listener.accept()).await {
            Some(Ok(accepted)) => accepted,
            // No descriptor is left, or the client has gone again.
            Some(Err(_)) => {
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
            None => break,
        };
        let Some(place) = places.take() else { continue };
        let client = Client { from, place: Arc::new(place) };
        let (router, stop) = (router.clone().layer(Extension(client.clone())), stop.clone());
        connections.spawn(async move {
            tokio::select! {
                () = client.place.must_leave() => tracing::debug!(%from, "an HTTP connection that waited gave way to others"),
                () = answer(router, socket, from, stop) => {}
            }
        });
    }
    connections.close();
    // One that neither sends nor reads does not hold up the end.
    let _ = tokio::time::timeout(HTTP_LAST_ANSWERS, connections.wait()).await;
}

async fn answer(router: Router, socket: TcpStream, from: SocketAddr, stop: CancellationToken) {
    // An alert is one small packet each way: it does not wait for the next one.
    let _ = socket.set_nodelay(true);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HTTP_HEAD_TIME);
    let socket = TokioIo::new(Taken::new(socket));
    let mut connection = pin!(server.serve_connection(socket, TowerToHyperService::new(router)));
    let ended = match stop.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(problem) = ended {
        tracing::debug!(%problem, %from, "an HTTP connection broke off");
    }
}

/// A socket whose peer has to take what is written: one that takes nothing for `HTTP_ANSWER_TIME` is gone.
struct Taken<S> {
    socket: S,
    /// Runs while the peer takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    fn new(socket: S) -> Taken<S> {
        Taken { socket, patience: None }
    }

    fn watch<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(HTTP_ANSWER_TIME)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.watch(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(context);
        self.watch(shut, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn half_open_requests_give_way_to_whoever_comes_after_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "served" }));
        let server = tokio::spawn(serve(router, listener, 20, stop.clone()));
        let mut half_open = Vec::new();
        for _ in 0..70 {
            let mut socket = TcpStream::connect(at).await.unwrap();
            socket.write_all(b"POST /alerts HTTP/1.1\r\nhost: a\r\nx-slow:").await.unwrap();
            half_open.push(socket);
        }
        let mut alert = TcpStream::connect(at).await.unwrap();
        alert.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        alert.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("served"), "{answer}");
        // The oldest were sent away for those who came after them.
        let mut rest = Vec::new();
        assert!(matches!(half_open[0].read_to_end(&mut rest).await, Ok(0) | Err(_)));
        stop.cancel();
        drop(half_open);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_of_its_answer_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Taken::new(ours);
        let slow = tokio::spawn(async move {
            let mut taken = [0; 4];
            for _ in 0..3 {
                sleep(HTTP_ANSWER_TIME - Duration::from_millis(1)).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
            theirs
        });
        ours.write_all(&[7; 16]).await.unwrap();
        let _theirs = slow.await.unwrap();
        let problem = ours.write_all(&[7; 16]).await.unwrap_err();
        assert_eq!(problem.kind(), io::ErrorKind::TimedOut);
    }
}
