//! Every bound of the embedded Kafka endpoint, each with its reason. No behaviour here.

use std::time::Duration;

/// The number of the only node, which is leader, controller and coordinator.
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
/// Room is taken in steps of this many bytes: what a client holds that announced a frame and sends nothing, 63 MiB for all.
pub(super) const REQUEST_STEP: usize = 64 << 10;
/// Fetched bytes on their way to all connections together, in KiB.
pub(super) const ANSWER_ROOM_KIB: u32 = 256 << 10;
/// Bytes of one fetch answer. Clients ask again at once, so that a smaller bound than Kafka's 55 MiB costs a round trip and not
/// throughput.
pub(super) const MAX_FETCH: usize = 16 << 20;
/// Requests read ahead on one connection. Idempotent producers keep 5 in flight, others a few tens.
pub(super) const MAX_PIPELINED: usize = 64;
/// A client holds two or three connections, so that these are enough for hundreds of clients; each may hold a step of request
/// room. `up` raises its limit of file descriptors far above this; where the system does not let it, whoever is silent goes.
pub(super) const MAX_CONNECTIONS: usize = 1_000;
/// A connection that asked for nothing during this time may be closed when somebody else needs its place; a client that is
/// alive asks more often, and connects again.
pub(super) const IDLE_MAY_GO: Duration = Duration::from_secs(10);
/// A connection that never asked for anything is closed after this: Kafka's clients ask for the versions at once.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Time over which a beginning flood of connections is counted before it is reported.
pub(super) const FIRST_REPORT: Duration = Duration::from_secs(5);
/// Time over which a flood that goes on is counted before it is reported again.
pub(super) const NEXT_REPORT: Duration = Duration::from_secs(60);
/// How long the endpoint waits when it could not accept a connection: the reason seldom goes at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Partitions of all topics; each keeps the files of its segments open.
pub(super) const MAX_PARTITIONS: usize = 512;
pub(super) const MAX_TOPIC_NAME: usize = 249;
pub(super) const MAX_GROUPS: usize = 1_000;
pub(super) const MAX_GROUP_MEMBERS: usize = 200;
/// Metadata of one committed offset (Kafka's `offset.metadata.max.bytes`).
pub(super) const MAX_OFFSET_METADATA: usize = 4096;

/// Time in which a frame must arrive, and in which a client must read its answer: a stalled peer holds shared room.
pub(super) const PEER_STALL: Duration = Duration::from_secs(30);
/// While others wait for room, a step of a frame must arrive within this time.
pub(super) const WANTED_STALL: Duration = Duration::from_secs(2);
/// A connection that has asked before is closed after this time without a request (Kafka's `connections.max.idle.ms`).
pub(super) const IDLE: Duration = Duration::from_secs(600);
pub(super) const MAX_FETCH_WAIT: Duration = Duration::from_secs(60);
/// How long stopping waits for connections that still write.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(5);
/// Kafka's `group.min.session.timeout.ms` and its maximum: what works here works there.
pub(super) const MIN_SESSION_MS: i32 = 6_000;
pub(super) const MAX_SESSION_MS: i32 = 1_800_000;
pub(super) const GROUP_TICK: Duration = Duration::from_millis(100);
/// How often retention looks for records that are no longer kept (Kafka's `log.retention.check.interval.ms`).
pub(super) const RETENTION_TICK: Duration = Duration::from_secs(300);
/// Whatever its timestamp, a record is not removed by its age sooner than this after it was written: its consumers have had
/// time to read it. In Apache Kafka it may go with the next look that retention takes.
pub(super) const LEAST_KEPT_MS: i64 = 300_000;

/// Distance of index entries in a segment: 24 bytes an entry, so 96 KiB of memory a full 64 MiB segment.
pub(super) const INDEX_INTERVAL: u64 = 16 << 10;
/// Bytes of one partition that may await their sync; also how much of its end is checked by checksum after a crash.
pub(super) const MAX_UNSYNCED: u64 = 8 << 20;
/// Bytes whose checksums are computed in search of good batches behind damage: a quarter of a second's work. Only a log that
/// was made to mislead holds more bytes that look like batches and are not.
pub(super) const MAX_SEARCH_SUMMED: u64 = 256 << 20;
/// Damaged places of one partition that the endpoint's log names; more of them say nothing new.
pub(super) const MAX_DAMAGE_TOLD: usize = 100;
/// Batches of one producer remembered for deduplication (Kafka's fixed number; clients keep at most 5 in flight).
pub(super) const REMEMBERED_BATCHES: usize = 5;
/// Producers remembered in one partition; the ones that wrote longest ago are forgotten first.
pub(super) const MAX_PRODUCERS: usize = 10_000;
/// Producer ids taken from the store at once, so that not every new producer costs a commit.
pub(super) const PRODUCER_ID_BLOCK: i64 = 1_000;
/// A batch that unpacks to more is not looked into for a time lookup.
pub(super) const MAX_UNPACKED: u64 = 64 << 20;
/// Partitions synced at the same time: the file system merges concurrent syncs into one journal commit.
pub(super) const SYNC_THREADS: usize = 4;
/// redb's default cache is 1 GiB; names and offsets need little.
pub(super) const META_CACHE: usize = 8 << 20;
