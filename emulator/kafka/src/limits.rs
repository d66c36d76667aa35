//! Every bound of the embedded Kafka endpoint, each with its reason. No behaviour here.

use std::time::Duration;

/// One node: it is its own leader, controller and coordinator.
pub(super) const NODE_ID: i32 = 1;
pub(super) const CLUSTER_ID: &str = "streammanager-embedded";

/// A frame of a produce request: what Apache Kafka allows too (`socket.request.max.bytes`).
pub(super) const MAX_FRAME: usize = 100 << 20;
/// Any other request is a list of names and numbers; 8 MiB is a hundred thousand of them.
pub(super) const MAX_PLAIN_FRAME: usize = 8 << 20;
/// Elements in all arrays of one request: what decoding may reserve memory for.
pub(super) const MAX_ELEMENTS: usize = 100_000;
/// Request bytes held by all connections together, in KiB; with the one frame that may go on without, 256 MiB.
pub(super) const REQUEST_ROOM_KIB: u32 = 156 << 10;
/// Room is taken in steps of this many bytes: what a client holds that announced a frame and sends nothing, 16 MiB for all.
pub(super) const REQUEST_STEP: usize = 64 << 10;
/// Fetched bytes on their way to all connections together, in KiB.
pub(super) const ANSWER_ROOM_KIB: u32 = 256 << 10;
/// One fetch answer; clients ask again at once, so a smaller bound than Kafka's 55 MiB costs a round trip, not throughput.
pub(super) const MAX_FETCH: usize = 16 << 20;
/// Requests read ahead on one connection. Idempotent producers keep 5 in flight, others a few tens.
pub(super) const MAX_PIPELINED: usize = 64;
/// With two segment files open for each busy partition this stays below the usual limit of 1,024 descriptors.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Partitions of all topics; each keeps its active segment open.
pub(super) const MAX_PARTITIONS: usize = 512;
pub(super) const MAX_TOPIC_NAME: usize = 249;
pub(super) const MAX_GROUPS: usize = 1_000;
pub(super) const MAX_GROUP_MEMBERS: usize = 200;
/// Metadata of one committed offset (Kafka's `offset.metadata.max.bytes`).
pub(super) const MAX_OFFSET_METADATA: usize = 4096;

/// A frame must arrive, and an answer must be taken, within this time: a stalled peer holds shared room.
pub(super) const PEER_STALL: Duration = Duration::from_secs(30);
/// While others wait for room, a step of a frame must arrive within this time.
pub(super) const WANTED_STALL: Duration = Duration::from_secs(2);
/// Kafka's `connections.max.idle.ms`.
pub(super) const IDLE: Duration = Duration::from_secs(600);
pub(super) const MAX_FETCH_WAIT: Duration = Duration::from_secs(60);
/// How long stopping waits for connections that still write.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(5);
/// Kafka's `group.min.session.timeout.ms` and its maximum: what works here works there.
pub(super) const MIN_SESSION_MS: i32 = 6_000;
pub(super) const MAX_SESSION_MS: i32 = 1_800_000;
pub(super) const GROUP_TICK: Duration = Duration::from_millis(100);
pub(super) const RETENTION_TICK: Duration = Duration::from_secs(10);

/// Distance of index entries in a segment: 24 bytes an entry, so 96 KiB of memory a full 64 MiB segment.
pub(super) const INDEX_INTERVAL: u64 = 16 << 10;
/// Bytes of one partition that may await their sync; also how much of its end is checked by checksum after a crash.
pub(super) const MAX_UNSYNCED: u64 = 8 << 20;
/// Bytes summed in search of good batches behind damage: a quarter of a second's work. Only a log made to mislead holds more
/// that looks like batches and is none.
pub(super) const MAX_SEARCH_SUMMED: u64 = 256 << 20;
/// Batches of one producer remembered for deduplication (Kafka's fixed number; clients keep at most 5 in flight).
pub(super) const REMEMBERED_BATCHES: usize = 5;
/// Producers remembered in one partition; the ones that wrote longest ago are forgotten first.
pub(super) const MAX_PRODUCERS: usize = 10_000;
/// Producer ids taken from the store at once, so that not every new producer costs a commit.
pub(super) const PRODUCER_ID_BLOCK: i64 = 1_000;
/// A batch that unpacks to more is not looked into for a time lookup.
pub(super) const MAX_UNPACKED: u64 = 64 << 20;
/// The same for LZ4, whose reader takes no bound: it unpacks to at most 255 times its size.
pub(super) const MAX_LZ4_PACKED: usize = 1 << 20;
/// Partitions synced at the same time: the file system merges concurrent syncs into one journal commit.
pub(super) const SYNC_THREADS: usize = 4;
/// redb's default cache is 1 GiB; names and offsets need little.
pub(super) const META_CACHE: usize = 8 << 20;
