//! What a connection answers: every request in every version, in order, and nothing to those that break the protocol.

use std::path::Path;

use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest, RequestHeader, TopicName};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::super::Broker;
use super::super::sample_requests::{produce, sample};
use super::super::text;
use super::*;

struct Endpoint {
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), super::super::BrokerError>>,
}

async fn start(folder: &Path) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Broker::open(folder, address).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(broker.serve(listener, stop.clone()));
    Endpoint { address, stop, serving }
}

impl Endpoint {
    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, key: ApiKey, version: i16, correlation: i32, request: &RequestKind) {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(text("test")));
        header.encode(&mut frame, key.request_header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.0.write_i32(frame.len() as i32).await.unwrap();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next answer's correlation id and body, or `None` if the connection was closed.
    async fn receive(&mut self, key: ApiKey, version: i16) -> Option<(i32, ResponseKind)> {
        let frame = self.frame().await?;
        let mut at = frame.clone();
        let correlation = at.get_i32();
        // Answers in flexible versions have tagged fields after the id; ApiVersions never has.
        if key.response_header_version(version) >= 1 {
            at.get_u8();
        }
        Some((correlation, ResponseKind::decode(key, &mut at, version).unwrap()))
    }

    async fn frame(&mut self) -> Option<Bytes> {
        let size = self.0.read_i32().await.ok()?;
        let mut frame = vec![0; size as usize];
        self.0.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    async fn call(&mut self, key: ApiKey, version: i16, request: &RequestKind) -> ResponseKind {
        self.send(key, version, 1, request).await;
        self.receive(key, version).await.expect("an answer").1
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn error_of(response: &ResponseKind) -> i16 {
    match response {
        ResponseKind::Produce(response) => response.responses[0].partition_responses[0].error_code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_request_in_every_offered_version_is_answered() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    for api in APIS {
        for version in api.min..=api.max {
            let mut client = endpoint.connect().await;
            let metadata = sample(ApiKey::Metadata, 4);
            client.call(ApiKey::Metadata, 4, &metadata).await;
            client.send(api.key, version, 77, &sample(api.key, version)).await;
            let (correlation, _) = client
                .receive(api.key, version)
                .await
                .unwrap_or_else(|| panic!("{:?} {version} closed the connection", api.key));
            assert_eq!(correlation, 77, "{:?} {version}", api.key);
        }
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn answers_come_in_order_and_are_durable_when_serving_ends() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut client = endpoint.connect().await;
    client.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    for correlation in 0..40 {
        match correlation % 4 {
            3 => client.send(ApiKey::Metadata, 4, correlation, &sample(ApiKey::Metadata, 4)).await,
            _ => client.send(ApiKey::Produce, 7, correlation, &RequestKind::Produce(produce(-1))).await,
        }
    }
    for correlation in 0..40 {
        let key = if correlation % 4 == 3 { (ApiKey::Metadata, 4) } else { (ApiKey::Produce, 7) };
        let (answered, response) = client.receive(key.0, key.1).await.unwrap();
        assert_eq!(answered, correlation);
        if let ResponseKind::Produce(produced) = response {
            let partition = &produced.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, i64::from(correlation - correlation / 4)));
        }
    }
    endpoint.stop().await;
    let endpoint = start(folder.path()).await;
    let mut client = endpoint.connect().await;
    let fetched = client.call(ApiKey::Fetch, 11, &RequestKind::Fetch(fetch(0, 0))).await;
    assert_eq!(high_watermark(&fetched), 30);
    endpoint.stop().await;
}

fn fetch(offset: i64, wait_ms: i32) -> FetchRequest {
    let RequestKind::Fetch(mut request) = sample(ApiKey::Fetch, 11) else { unreachable!() };
    request.max_wait_ms = wait_ms;
    request.topics[0].partitions[0].fetch_offset = offset;
    request
}

fn high_watermark(response: &ResponseKind) -> i64 {
    match response {
        ResponseKind::Fetch(response) => response.responses[0].partitions[0].high_watermark,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_waiting_fetch_wakes_for_a_record_and_holds_up_no_other_connection() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let (mut waiting, mut producing) = (endpoint.connect().await, endpoint.connect().await);
    producing.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    // A minute: the test would fail by its own time limit if nothing woke it.
    waiting.send(ApiKey::Fetch, 11, 5, &RequestKind::Fetch(fetch(0, 60_000))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let produced = producing.call(ApiKey::Produce, 7, &RequestKind::Produce(produce(1))).await;
    assert_eq!(error_of(&produced), 0);
    let woken = tokio::time::timeout(Duration::from_secs(30), waiting.receive(ApiKey::Fetch, 11)).await;
    assert_eq!(high_watermark(&woken.expect("the fetch wakes").unwrap().1), 1);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_producer_that_wants_no_answer_gets_none() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut client = endpoint.connect().await;
    client.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    client.send(ApiKey::Produce, 7, 1, &RequestKind::Produce(produce(0))).await;
    let second = client.call(ApiKey::Produce, 7, &RequestKind::Produce(produce(-1))).await;
    let ResponseKind::Produce(second) = second else { unreachable!() };
    assert_eq!(second.responses[0].partition_responses[0].base_offset, 1, "the first was written all the same");
    endpoint.stop().await;
}

#[tokio::test]
async fn transactions_and_unknown_topics_are_refused_by_name() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut client = endpoint.connect().await;
    let produced = client.call(ApiKey::Produce, 7, &RequestKind::Produce(produce(-1))).await;
    assert_eq!(error_of(&produced), ResponseError::UnknownTopicOrPartition.code());
    client.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    let transactional: ProduceRequest = produce(-1).with_transactional_id(Some(text("t").into()));
    let refused = client.call(ApiKey::Produce, 7, &RequestKind::Produce(transactional)).await;
    assert_eq!(error_of(&refused), ResponseError::TransactionalIdAuthorizationFailed.code());
    let asked = MetadataRequest::default()
        .with_topics(Some(vec![
            kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
                .with_name(Some(TopicName(text("not-there")))),
        ]))
        .with_allow_auto_topic_creation(false);
    let ResponseKind::Metadata(answer) = client.call(ApiKey::Metadata, 7, &RequestKind::Metadata(asked)).await else {
        unreachable!()
    };
    assert_eq!(answer.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(answer.topics[0].name.as_ref().map(|name| name.as_str()), Some("not-there"));
    endpoint.stop().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_closes_only_its_own_connection() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut bystander = endpoint.connect().await;
    let mut too_large = (MAX_PLAIN_FRAME as i32 + 1).to_be_bytes().to_vec();
    too_large.extend_from_slice(&[0, 3, 0, 0, 0, 0, 0, 1]);
    let mut endless_array = 18i32.to_be_bytes().to_vec();
    endless_array.extend_from_slice(&[0, 3, 0, 0, 0, 0, 0, 1, 0, 4, b't', b'e', b's', b't', 0x7f, 0xff, 0xff, 0xff]);
    for (what, bytes) in [
        ("a frame too large", too_large),
        ("a negative size", vec![0xff; 12]),
        ("an array without end", endless_array),
        ("an unknown request", vec![0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
        ("an unknown version", vec![0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
    ] {
        let mut client = endpoint.connect().await;
        client.0.write_all(&bytes).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(30), client.frame()).await;
        assert_eq!(closed.expect("it is closed at once"), None, "{what}");
    }
    bystander.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    endpoint.stop().await;
}

#[tokio::test]
async fn announced_frames_that_do_not_come_hold_up_nobody() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut client = endpoint.connect().await;
        client.0.write_all(&(MAX_FRAME as i32).to_be_bytes()).await.unwrap();
        client.0.write_all(&[0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff, 0]).await.unwrap();
        silent.push(client);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut bystander = endpoint.connect().await;
    bystander.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    let produced = bystander.call(ApiKey::Produce, 7, &RequestKind::Produce(produce(-1))).await;
    assert_eq!(error_of(&produced), 0);
    for client in silent {
        let open = client.0.try_read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(open, Err(io::ErrorKind::WouldBlock), "others had to wait until it was given up");
    }
    endpoint.stop().await;
}

/// The first `sent` bytes of a produce request's frame of `size`.
fn frame_of(size: usize, sent: usize) -> Vec<u8> {
    let mut bytes = (size as i32).to_be_bytes().to_vec();
    bytes.resize(4 + sent, 0);
    bytes
}

/// Reads one frame from a client that sends `bytes` and then nothing more, without leaving.
async fn frame_from(room: &Room, bytes: Vec<u8>) -> io::Result<usize> {
    let (mut client, mut reader) = tokio::io::duplex(1 << 10);
    let (_, frame) = tokio::join!(
        async {
            let _ = client.write_all(&bytes).await;
        },
        read_frame(room, &mut reader, FIRST_REQUEST, || {})
    );
    drop(client);
    let (frame, _room) = frame?.expect("the client has not left");
    Ok(frame.len())
}

#[tokio::test(start_paused = true)]
async fn large_frames_that_need_each_other_s_room_all_arrive() {
    let room = Room::new(500);
    let large = frame_of(400 << 10, 400 << 10);
    let all = futures::future::join_all((0..6).map(|_| frame_from(&room, large.clone())));
    let arrived = tokio::time::timeout(Duration::from_secs(600), all).await.expect("one of them always goes on");
    arrived.into_iter().for_each(|size| assert_eq!(size.unwrap(), 400 << 10));
    assert!(!room.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn stalled_frames_are_given_up_once_others_wait_for_their_room() {
    let room = Room::new(256);
    let stalled = || frame_from(&room, frame_of(1 << 20, 200 << 10));
    let began = Instant::now();
    let alone = stalled().await.unwrap_err();
    assert_eq!((alone.kind(), began.elapsed()), (io::ErrorKind::TimedOut, PEER_STALL));

    let began = Instant::now();
    let honest = async {
        // When the others hold all the room, and the turn to go on without.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let size = frame_from(&room, frame_of(100, 100)).await.unwrap();
        (size, began.elapsed())
    };
    let (first, second, (size, after)) = tokio::join!(stalled(), stalled(), honest);
    assert_eq!([first.unwrap_err().kind(), second.unwrap_err().kind()], [io::ErrorKind::TimedOut; 2]);
    assert_eq!(size, 100);
    assert!(after < PEER_STALL, "{after:?}, of the paused clock");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_asks_for_anything_is_let_go_soon() {
    let room = Room::new(64);
    for (sent, after) in [(0, FIRST_REQUEST), (1, PEER_STALL), (5, PEER_STALL)] {
        let (mut client, mut reader) = tokio::io::duplex(64);
        client.write_all(&vec![0; sent]).await.unwrap();
        let (began, mut begun) = (Instant::now(), false);
        let frame = read_frame(&room, &mut reader, FIRST_REQUEST, || begun = true).await;
        assert!(frame.is_err() == begun && frame.is_ok_and(|frame| frame.is_none()) != begun, "after {sent} bytes");
        assert_eq!((began.elapsed(), begun), (after, sent > 0), "after {sent} bytes");
    }
}

#[tokio::test]
async fn a_newer_client_is_told_the_versions_in_the_oldest_form() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut client = endpoint.connect().await;
    client.0.write_all(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 9, 0xff, 0xff, 0, 0]).await.unwrap();
    let (correlation, answer) = client.receive(ApiKey::ApiVersions, 0).await.unwrap();
    let ResponseKind::ApiVersions(answer) = answer else { unreachable!() };
    assert_eq!((correlation, answer.error_code), (9, ResponseError::UnsupportedVersion.code()));
    assert!(answer.api_keys.iter().any(|api| api.api_key == ApiKey::Produce as i16 && api.max_version == 9));
    endpoint.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name() {
    let folder = folder();
    let _first = Broker::open(folder.path(), ([127, 0, 0, 1], 1).into()).unwrap();
    let second = Broker::open(folder.path(), ([127, 0, 0, 1], 1).into()).err().expect("refused").to_string();
    assert!(second.contains("in use") && second.contains(&*folder.path().to_string_lossy()), "{second}");
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let folder = folder();
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let endpoint = start(folder.path()).await;
        let mut client = endpoint.connect().await;
        for _ in 0..5 {
            let answer = client.call(ApiKey::InitProducerId, 4, &sample(ApiKey::InitProducerId, 4)).await;
            let ResponseKind::InitProducerId(answer) = answer else { unreachable!() };
            let id = answer.producer_id.0;
            assert!(given.last().is_none_or(|last| *last < id), "{id} after {given:?}");
            given.insert(id);
        }
        endpoint.stop().await;
    }
    assert_eq!(given.len(), 15);
}

/// Repeatable noise.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_broken_frames_do_not_end_the_endpoint() {
    let folder = folder();
    let endpoint = start(folder.path()).await;
    let mut bystander = endpoint.connect().await;
    bystander.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    let seeds = [0x5eed_1234_5678_9abc, 0x1357_9bdf_0246_8ace, 0xfeed_beef_dead_cafe, 0x0bad_5eed_0bad_5eed];
    let senders = seeds.map(|seed| tokio::spawn(send_broken_frames(endpoint.address, Noise(seed), 5_000)));
    for sender in senders {
        sender.await.unwrap();
    }
    bystander.call(ApiKey::Metadata, 4, &sample(ApiKey::Metadata, 4)).await;
    let produced = bystander.call(ApiKey::Produce, 7, &RequestKind::Produce(produce(-1))).await;
    assert_eq!(error_of(&produced), 0);
    endpoint.stop().await;
}

/// One a connection: the first that is refused ends it.
async fn send_broken_frames(address: SocketAddr, mut noise: Noise, count: usize) {
    for _ in 0..count {
        let mut client = Client(TcpStream::connect(address).await.unwrap());
        let _ = client.0.write_all(&broken_frame(&mut noise)).await;
        let _ = client.0.shutdown().await;
        let closed = async { while client.frame().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(30), closed).await.expect("a client that is done is let go");
    }
}

/// Pure noise, or a request of a random kind and version with a few bytes changed or its end cut off.
fn broken_frame(noise: &mut Noise) -> Bytes {
    let mut frame = BytesMut::new();
    if noise.below(4) == 0 {
        let size = 8 + noise.below(60);
        frame.put_i32(size as i32);
        frame.extend((0..size).map(|_| noise.below(256) as u8));
        return frame.freeze();
    }
    let api = &APIS[noise.below(APIS.len())];
    let version = api.min + noise.below((api.max - api.min + 1) as usize) as i16;
    frame.put_i32(0);
    let header = RequestHeader::default().with_request_api_key(api.key as i16).with_request_api_version(version);
    header.encode(&mut frame, api.key.request_header_version(version)).unwrap();
    sample(api.key, version).encode(&mut frame, version).unwrap();
    for _ in 0..noise.below(4) {
        let at = 4 + noise.below(frame.len() - 4);
        frame[at] = noise.below(256) as u8;
    }
    if noise.below(3) == 0 {
        frame.truncate(12 + noise.below(frame.len() - 12));
    }
    let size = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.freeze()
}
