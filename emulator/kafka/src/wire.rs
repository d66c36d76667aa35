//! One connection: frames in, answers out in the order of the requests. Produce requests are appended as they are read and
//! answered when the disk has them, so that those in flight share a sync; anything else runs when its turn to answer comes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use super::apis::{APIS, Api, Header, find};
use super::connections::Seat;
use super::limits::{
    FIRST_REQUEST, IDLE, MAX_FRAME, MAX_PIPELINED, MAX_PLAIN_FRAME, PEER_STALL, REQUEST_STEP, WANTED_STALL,
};
use super::produce::Appended;
use super::room::{Held, Room};
use super::{Node, blocking};

/// What a connection owes its client.
struct Owed {
    correlation: i32,
    version: i16,
    work: Work,
}

enum Work {
    Appended(Appended),
    /// Not begun yet; the room stands for the frame that it still refers to.
    Request {
        header: Header,
        request: Box<RequestKind>,
        _room: Held,
    },
    /// The client asked in a version of ApiVersions that only a newer broker knows.
    Versions,
}

/// Ends with an error if the client does not keep to the protocol, and without one when it leaves.
pub(super) async fn serve(node: Arc<Node>, stream: TcpStream, peer: SocketAddr, seat: &Seat) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (owe, owed) = mpsc::channel(MAX_PIPELINED);
    let reading = read_requests(&node, reader, owe, seat);
    let writing = write_answers(&node, writer, owed, peer, seat);
    tokio::pin!(reading, writing);
    tokio::select! {
        // The client is gone, or the endpoint stops: what was appended is still answered.
        result = &mut reading => match (result, node.stop.is_cancelled()) {
            (Ok(()), true) => writing.await,
            (result, _) => result,
        },
        result = &mut writing => result,
        () = seat.displaced() => Err(broken("another client needs its place")),
    }
}

async fn read_requests(
    node: &Arc<Node>,
    mut reader: OwnedReadHalf,
    owe: mpsc::Sender<Owed>,
    seat: &Seat,
) -> io::Result<()> {
    let mut patience = FIRST_REQUEST;
    loop {
        let next = tokio::select! {
            next = read_frame(&node.request_room, &mut reader, patience, || seat.begin()) => next?,
            () = node.stop.cancelled() => return Ok(()),
        };
        let Some((frame, room)) = next else { return Ok(()) };
        let owed = begin(node, &frame, room)?;
        seat.asked();
        patience = IDLE;
        let Some(owed) = owed else {
            seat.end(Instant::now());
            continue;
        };
        if owe.send(owed).await.is_err() {
            return Ok(());
        }
    }
}

/// Waits for a frame to begin, for as long as the endpoint has `patience`, and reads it. `None` when the client is done.
async fn read_frame(
    room: &Room,
    reader: &mut (impl AsyncRead + Unpin),
    patience: Duration,
    begun: impl FnOnce(),
) -> io::Result<Option<(Bytes, Held)>> {
    let mut head = [0; 6];
    match timeout(patience, reader.read(&mut head[..1])).await {
        Ok(Ok(0)) | Err(_) => return Ok(None),
        Ok(Ok(_)) => begun(),
        Ok(Err(error)) => return Err(error),
    }
    match timeout(PEER_STALL, reader.read_exact(&mut head[1..])).await? {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => _ = read?,
    }
    let mut fields = &head[..];
    let (size, key) = (fields.get_i32(), fields.get_i16());
    let bound = if key == ApiKey::Produce as i16 { MAX_FRAME } else { MAX_PLAIN_FRAME };
    let size = usize::try_from(size).ok().filter(|size| (8..=bound).contains(size));
    let size = size.ok_or_else(|| broken("a frame of impossible size"))?;
    // The buffer grows with what arrives, not with what the client announced.
    let mut frame = BytesMut::with_capacity(size.min(REQUEST_STEP));
    frame.put_i16(key);
    let (mut held, mut left) = (Held::default(), PEER_STALL);
    while frame.len() < size {
        let step = (size - frame.len()).min(REQUEST_STEP);
        room.take(&mut held, step).await?;
        // Waiting for room is not the client's delay.
        let asked = Instant::now();
        if !arrive(room, reader, &mut frame, step, asked + left).await? {
            return Ok(None);
        }
        left = left.saturating_sub(asked.elapsed());
    }
    Ok(Some((frame.freeze(), held)))
}

/// The next `step` bytes of a frame; `false` if the client left. A client that does not bring them is given up at `until`,
/// and earlier if others wait for the room that it holds.
async fn arrive(
    room: &Room,
    reader: &mut (impl AsyncRead + Unpin),
    frame: &mut BytesMut,
    step: usize,
    until: Instant,
) -> io::Result<bool> {
    let mut rest = reader.take(step as u64);
    let filling = async {
        while rest.limit() > 0 {
            if rest.read_buf(frame).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    tokio::pin!(filling);
    loop {
        match timeout_at(until.min(Instant::now() + WANTED_STALL), &mut filling).await {
            Ok(arrived) => return arrived,
            Err(late) if room.is_wanted() || Instant::now() >= until => return Err(late.into()),
            Err(_) => {}
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Takes a request up. A produce request is carried out here, in the order of arrival.
fn begin(node: &Node, frame: &Bytes, room: Held) -> io::Result<Option<Owed>> {
    let header = Header::parse(frame).ok_or_else(|| broken("an unreadable header"))?;
    let (correlation, version) = (header.correlation, header.version);
    let api = find(header.key).ok_or_else(|| broken("an unknown request"))?;
    if !(api.min..=api.max).contains(&version) {
        return match api.key {
            ApiKey::ApiVersions => Ok(Some(Owed { correlation, version: 0, work: Work::Versions })),
            _ => Err(broken("a request version that was not offered")),
        };
    }
    let request = decode(api, &header).ok_or_else(|| broken("an unreadable request"))?;
    let work = match request {
        RequestKind::Produce(request) => match node.append(request) {
            Some(appended) => Work::Appended(appended),
            None => return Ok(None),
        },
        request => Work::Request { header, request: Box::new(request), _room: room },
    };
    Ok(Some(Owed { correlation, version, work }))
}

fn decode(api: &Api, header: &Header) -> Option<RequestKind> {
    api.check(header.version, &header.body)?;
    RequestKind::decode(api.key, &mut header.body.clone(), header.version).ok()
}

async fn write_answers(
    node: &Arc<Node>,
    mut writer: OwnedWriteHalf,
    mut owed: mpsc::Receiver<Owed>,
    peer: SocketAddr,
    seat: &Seat,
) -> io::Result<()> {
    while let Some(Owed { correlation, version, work }) = owed.recv().await {
        let (response, room) = match work {
            Work::Appended(appended) => (ResponseKind::Produce(appended.answer().await), None),
            Work::Versions => (ResponseKind::ApiVersions(api_versions(ResponseError::UnsupportedVersion.code())), None),
            Work::Request { header, request, _room } => {
                // Waiting for other members ends when the endpoint stops.
                tokio::select! {
                    answer = node.answer(*request, header, peer) => answer?,
                    () = node.stop.cancelled() => return Ok(()),
                }
            }
        };
        let bytes = encode(&response, correlation, version).map_err(io::Error::other)?;
        drop(response);
        timeout(PEER_STALL, writer.write_all(&bytes)).await??;
        drop(room);
        seat.end(Instant::now());
    }
    writer.shutdown().await
}

fn encode(
    response: &ResponseKind,
    correlation: i32,
    version: i16,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    ResponseHeader::default().with_correlation_id(correlation).encode(&mut bytes, response.header_version(version))?;
    response.encode(&mut bytes, version)?;
    let size = i32::try_from(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    Ok(bytes.freeze())
}

fn api_versions(error: i16) -> ApiVersionsResponse {
    let apis = APIS.iter().map(|api| {
        ApiVersion::default().with_api_key(api.key as i16).with_min_version(api.min).with_max_version(api.max)
    });
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(apis.collect())
}

impl Node {
    async fn answer(
        self: &Arc<Self>,
        request: RequestKind,
        header: Header,
        peer: SocketAddr,
    ) -> io::Result<(ResponseKind, Option<OwnedSemaphorePermit>)> {
        let Header { version, client_id, .. } = header;
        let response = match request {
            RequestKind::ApiVersions(_) => ResponseKind::ApiVersions(api_versions(0)),
            RequestKind::Fetch(request) => {
                let (response, room) = self.fetch(request).await;
                return Ok((ResponseKind::Fetch(response), room));
            }
            RequestKind::JoinGroup(request) => {
                ResponseKind::JoinGroup(self.join_group(request, version, client_id, peer.ip()).await)
            }
            RequestKind::SyncGroup(request) => ResponseKind::SyncGroup(self.sync_group(request).await),
            RequestKind::Heartbeat(request) => ResponseKind::Heartbeat(self.heartbeat(request)),
            RequestKind::LeaveGroup(request) => ResponseKind::LeaveGroup(self.leave_group(request, version)),
            RequestKind::FindCoordinator(request) => {
                ResponseKind::FindCoordinator(self.find_coordinator(request, version))
            }
            RequestKind::DescribeCluster(_) => ResponseKind::DescribeCluster(self.describe_cluster()),
            request => {
                let node = self.clone();
                let response = blocking(move || node.answer_from_store(request, version)).await;
                response.ok().flatten().ok_or_else(|| broken("a request that cannot be answered"))?
            }
        };
        Ok((response, None))
    }

    /// Requests that read or change the store, or look into old segments.
    pub(super) fn answer_from_store(&self, request: RequestKind, version: i16) -> Option<ResponseKind> {
        Some(match request {
            RequestKind::Metadata(request) => ResponseKind::Metadata(self.metadata(request, version)),
            RequestKind::DescribeLogDirs(request) => ResponseKind::DescribeLogDirs(self.describe_log_dirs(request)),
            RequestKind::ListOffsets(request) => ResponseKind::ListOffsets(self.list_offsets(request, version)),
            RequestKind::OffsetForLeaderEpoch(request) => {
                ResponseKind::OffsetForLeaderEpoch(self.offset_for_leader_epoch(request))
            }
            RequestKind::InitProducerId(request) => ResponseKind::InitProducerId(self.init_producer_id(request)),
            RequestKind::OffsetCommit(request) => ResponseKind::OffsetCommit(self.offset_commit(request)),
            RequestKind::OffsetFetch(request) => ResponseKind::OffsetFetch(self.offset_fetch(request, version)),
            RequestKind::OffsetDelete(request) => ResponseKind::OffsetDelete(self.offset_delete(request)),
            RequestKind::DescribeGroups(request) => ResponseKind::DescribeGroups(self.describe_groups(request)),
            RequestKind::ListGroups(request) => ResponseKind::ListGroups(self.list_groups(request, version)),
            RequestKind::DeleteGroups(request) => ResponseKind::DeleteGroups(self.delete_groups(request)),
            RequestKind::CreateTopics(request) => ResponseKind::CreateTopics(self.create_topics(request)),
            RequestKind::DeleteTopics(request) => ResponseKind::DeleteTopics(self.delete_topics(request)),
            RequestKind::CreatePartitions(request) => ResponseKind::CreatePartitions(self.create_partitions(request)),
            RequestKind::DeleteRecords(request) => ResponseKind::DeleteRecords(self.delete_records(request)),
            RequestKind::DescribeConfigs(request) => ResponseKind::DescribeConfigs(self.describe_configs(request)),
            RequestKind::AlterConfigs(request) => ResponseKind::AlterConfigs(self.alter_configs(request)),
            RequestKind::IncrementalAlterConfigs(request) => {
                ResponseKind::IncrementalAlterConfigs(self.incremental_alter_configs(request))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
