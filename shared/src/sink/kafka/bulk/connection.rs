//! One connection to a broker: requests go out in the order in which they are asked, and answers come in that order.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::security::Handshake;
use super::shape::Part::{self, Fixed, Numbers, Structures, Text};
use super::shape::Shape;

const CLIENT: &str = "streammanager";
/// A connection with all its handshakes; what is to be shown in them is made before.
const SETUP: Duration = Duration::from_secs(2);
/// A broker that has not answered by then is asked again on a new connection, which it takes for a repeat.
const ANSWER: Duration = Duration::from_millis(1_500);
/// The largest answer: of metadata, a hundred bytes a partition. A broker that announces more is none.
const ANSWER_BYTES: usize = 16 << 20;
/// Of a session's time this much is used, as Kafka's own clients do: what is under way then is answered before it ends.
const SESSION: f64 = 0.85;

/// What travels: TCP, and TLS on it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A request that we send, in the versions that this code was written for.
pub(super) trait Ask: Request {
    const SPOKEN: VersionRange;
    const ANSWER: Shape;
}

impl Ask for ApiVersionsRequest {
    // The one that every broker answers in a form known beforehand.
    const SPOKEN: VersionRange = VersionRange { min: 0, max: 0 };
    const ANSWER: Shape = Shape { flexible: 3, parts: &[(0, Fixed(2)), (0, Structures(&[(0, Fixed(6))]))] };
}

impl Ask for MetadataRequest {
    // From 4 on topics are not created by asking; from 10 on they have ids.
    const SPOKEN: VersionRange = VersionRange { min: 4, max: 9 };
    const ANSWER: Shape = Shape {
        flexible: 9,
        parts: &[
            (3, Fixed(4)),
            (0, Structures(&[(0, Fixed(4)), (0, Text), (0, Fixed(4)), (1, Text)])),
            (2, Text),
            (1, Fixed(4)),
            (0, Structures(&[(0, Fixed(2)), (0, Text), (1, Fixed(1)), (0, Structures(PARTITION)), (8, Fixed(4))])),
            (8, Fixed(4)),
        ],
    };
}

impl Ask for InitProducerIdRequest {
    const SPOKEN: VersionRange = VersionRange { min: 0, max: 4 };
    const ANSWER: Shape = Shape::WITHOUT_ARRAYS;
}

impl Ask for CreateTopicsRequest {
    // Flexible only from 5 on, which brings nothing that is needed; Kafka 4 begins at 2.
    const SPOKEN: VersionRange = VersionRange { min: 2, max: 4 };
    const ANSWER: Shape =
        Shape { flexible: 5, parts: &[(2, Fixed(4)), (0, Structures(&[(0, Text), (0, Fixed(2)), (1, Text)]))] };
}

impl Ask for ProduceRequest {
    // zstd needs 7; from 13 on topics are named by id.
    const SPOKEN: VersionRange = VersionRange { min: 7, max: 9 };
    const ANSWER: Shape =
        Shape { flexible: 9, parts: &[(0, Structures(&[(0, Text), (0, Structures(WRITTEN))])), (1, Fixed(4))] };
}

const PARTITION: &[(i16, Part)] = &[(0, Fixed(10)), (7, Fixed(4)), (0, Numbers(4)), (0, Numbers(4)), (5, Numbers(4))];

const WRITTEN: &[(i16, Part)] =
    &[(0, Fixed(14)), (2, Fixed(8)), (5, Fixed(8)), (8, Structures(&[(0, Fixed(4)), (0, Text)])), (8, Text)];

pub(super) struct Connection {
    versions: BTreeMap<i16, VersionRange>,
    correlation: AtomicI32,
    frames: mpsc::UnboundedSender<Frame>,
    is_over: Arc<AtomicBool>,
    /// The broker throws out whoever asks it after the end of the session.
    ends: Option<Instant>,
    tasks: [JoinHandle<()>; 2],
}

/// A request on its way, and who waits for the answer.
struct Frame {
    bytes: Bytes,
    waiting: Waiting,
}

struct Waiting {
    correlation: i32,
    answer: oneshot::Sender<Bytes>,
}

impl Connection {
    /// Connects to `HOST:PORT`, proves who we are and learns what the broker speaks.
    ///
    /// # Errors
    /// What stands in the way, with the address.
    pub(super) async fn open(address: &str, handshake: &Handshake) -> Result<Connection, String> {
        handshake.prepare().await.map_err(|problem| format!("{address}: {problem}"))?;
        let opening = async {
            let stream = connect(address).await?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let mut connection = Connection::over(handshake.encrypt(stream, host).await?);
            connection.learn_versions().await?;
            let asked = Instant::now();
            let session = handshake.authenticate(&connection).await?;
            connection.ends = session.map(|lasts| asked + lasts.mul_f64(SESSION));
            Ok(connection)
        };
        let opened = timeout(SETUP, opening).await.unwrap_or_else(|_| Err(format!("no connection within {SETUP:?}")));
        opened.map_err(|problem: String| format!("{address}: {problem}"))
    }

    fn over(stream: Box<dyn Transport>) -> Connection {
        let (reading, writing) = tokio::io::split(stream);
        let (frames, to_write) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(VecDeque::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks = [
            tokio::spawn(write(writing, to_write, waiting.clone(), is_over.clone())),
            tokio::spawn(read(reading, waiting, is_over.clone())),
        ];
        Connection { versions: BTreeMap::new(), correlation: AtomicI32::new(0), frames, is_over, ends: None, tasks }
    }

    async fn learn_versions(&mut self) -> Result<(), String> {
        let answer = self.ask_in(0, &ApiVersionsRequest::default()).await?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(format!("the broker does not tell what it speaks: {error}"));
        }
        let versions = answer.api_keys.iter();
        self.versions =
            versions.map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version })).collect();
        Ok(())
    }

    /// Whether the broker has gone, or answered what is no answer, or the session is about to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire) || self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// The answer to a request; waits for it as long as the connection lasts.
    ///
    /// # Errors
    /// When the connection ends, or the broker is too old or too new.
    pub(super) async fn ask<R: Ask>(&self, request: &R) -> Result<R::Response, String> {
        let (ours, theirs) = (R::SPOKEN, self.versions.get(&R::KEY));
        let shared = theirs.map(|theirs| ours.intersect(theirs)).filter(|both| !both.is_empty());
        let version = shared.ok_or_else(|| {
            let theirs = theirs.map_or("none".into(), ToString::to_string);
            format!("of Kafka's request {} the broker speaks the versions {theirs}, this client {ours}", R::KEY)
        })?;
        self.ask_in(version.max, request).await
    }

    /// The same, within the time that a broker has for an answer.
    pub(super) async fn ask_in_time<R: Ask>(&self, request: &R) -> Result<R::Response, String> {
        let answer = timeout(ANSWER, self.ask(request)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {ANSWER:?}")))
    }

    pub(super) async fn ask_in<R: Ask>(&self, version: i16, request: &R) -> Result<R::Response, String> {
        let correlation = self.correlation.fetch_add(1, Ordering::Relaxed);
        let bytes = frame(version, correlation, request)?;
        let (answer, answered) = oneshot::channel();
        let gone = || "the broker closed the connection".to_owned();
        self.frames.send(Frame { bytes, waiting: Waiting { correlation, answer } }).map_err(|_| gone())?;
        let mut bytes = answered.await.map_err(|_| gone())?;
        let no_answer = |problem: &dyn std::fmt::Display| format!("an answer that is none: {problem}");
        ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).map_err(|e| no_answer(&e))?;
        if !R::ANSWER.fits(version, &bytes) {
            return Err(no_answer(&"it claims to hold more than it has"));
        }
        R::Response::decode(&mut bytes, version).map_err(|e| no_answer(&e))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Result<Bytes, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
    let mut bytes = BytesMut::with_capacity(64 + request.compute_size(version).unwrap_or(0));
    bytes.put_i32(0);
    let encoded =
        header.encode(&mut bytes, R::header_version(version)).and_then(|()| request.encode(&mut bytes, version));
    encoded.map_err(|e| format!("a request that this version cannot carry: {e}"))?;
    let size = bytes.len() - 4;
    (&mut bytes[..4]).put_i32(size as i32);
    Ok(bytes.freeze())
}

/// To whichever of a name's addresses answers first, in their order.
async fn connect(address: &str) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = lookup_host(address).await.map_err(|e| e.to_string())?.collect();
    let each = SETUP / (addresses.len() as u32 + 1);
    let mut problem = "its name has no address".to_owned();
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => problem = e.to_string(),
            Err(_) => problem = format!("{address} did not answer within {each:?}"),
        }
    }
    Err(problem)
}

async fn write(
    mut to: WriteHalf<Box<dyn Transport>>,
    mut frames: mpsc::UnboundedReceiver<Frame>,
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    is_over: Arc<AtomicBool>,
) {
    while let Some(frame) = frames.recv().await {
        // The answer cannot come before the one who waits for it is known.
        waiting.lock().push_back(frame.waiting);
        let written = async {
            to.write_all(&frame.bytes).await?;
            to.flush().await
        };
        if written.await.is_err() || is_over.load(Ordering::Acquire) {
            break;
        }
    }
    is_over.store(true, Ordering::Release);
    waiting.lock().clear();
}

async fn read(
    mut from: ReadHalf<Box<dyn Transport>>,
    waiting: Arc<Mutex<VecDeque<Waiting>>>,
    is_over: Arc<AtomicBool>,
) {
    while let Ok(size) = from.read_u32().await {
        let size = size as usize;
        if !(4..=ANSWER_BYTES).contains(&size) {
            break;
        }
        let mut bytes = BytesMut::zeroed(size);
        if from.read_exact(&mut bytes).await.is_err() {
            break;
        }
        let next = waiting.lock().pop_front();
        let Some(next) = next.filter(|next| next.correlation == (&bytes[..4]).get_i32()) else { break };
        let _ = next.answer.send(bytes.freeze());
    }
    is_over.store(true, Ordering::Release);
    waiting.lock().clear();
}
