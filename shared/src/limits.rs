//! Every bound of the system with its reason, in one place. Sizes in bytes, counts in the unit named.

use std::time::Duration;

/// Observed times later than now by more than this are rejected [S9].
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// An envelope's compressed body aims at this: as base64 it fills one 64 KB billing unit of SQS.
pub const ENVELOPE_TARGET_BYTES: usize = 48 * 1024;
/// One record that cannot be split may fill an envelope up to this: 1 MiB of SQS less base64 and header.
pub const ENVELOPE_MAX_BYTES: usize = 700 * 1024;
/// What an envelope may unpack to; a larger one is corrupt or hostile.
pub const ENVELOPE_UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// A record's JSON value; Kafka's own default for a message is 1 MiB.
pub const RECORD_VALUE_BYTES: usize = 900 * 1024;
/// Compression of envelopes: level 1, the queue is not the archive.
pub const ENVELOPE_ZSTD_LEVEL: i32 = 1;

/// Records of a tier's largest send [P5]. CRITICAL envelopes hold one alert each.
pub const LARGEST_SEND_CRITICAL: usize = 1;
/// A satellite's detections of one poll: a HIGH record waits for few others.
pub const LARGEST_SEND_HIGH: usize = 500;
/// NORMAL records have ten seconds.
pub const LARGEST_SEND_NORMAL: usize = 1_000;
/// LOW is about throughput.
pub const LARGEST_SEND_LOW: usize = 5_000;

/// Records in memory that were queued here and are not delivered yet, in bytes of their envelopes unpacked: twice what is in flight, at a
/// kilobyte and a half a record.
pub const FRESH_BYTES: usize = 24 * 1024 * 1024;

/// Capacity of one tier's queue in envelopes [Q2].
pub const QUEUE_CAPACITY: u64 = 10_000;
/// A record that would wait this long finds its tier fully used, whatever its queue's capacity; with the time that a record
/// takes from its source on, nobody waits over 12 minutes [P6].
pub const LONGEST_EXPECTED_WAIT: Duration = Duration::from_secs(10 * 60);
/// Below so many free bytes of the data folder's disk nothing new is taken in [Q2]: several groups of writes that are under
/// way, and the deliveries' own.
pub const DISK_FLOOR_BYTES: u64 = 16 * 1024 * 1024;
/// Held in a file, and given up for deliveries when the disk is full nevertheless: forgetting 10,000 envelopes writes less,
/// since the pages of one transaction are used again by the next but one.
pub const DISK_RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Notes of records' ways, two a record of some 40 bytes each: those of the last 10 million [O7].
pub const PROVENANCE_BYTES: u64 = 1024 * 1024 * 1024;
/// One file of them: the records of the one that is written are known in memory, 16 bytes each.
pub const PROVENANCE_VOLUME_BYTES: u64 = 16 * 1024 * 1024;
/// Notes that wait for the thread that writes them; of 5,000 records each, they are some 40 MB.
pub const PROVENANCE_WAITING: usize = 256;
/// One message of a queue, as SQS has it.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Messages in one send or receive call, as SQS has it.
pub const QUEUE_BATCH: usize = 10;
/// SQS's longest poll: a longer wait is several.
pub const QUEUE_POLL: Duration = Duration::from_secs(20);
/// On AWS a queue's count is good for this long, with what was sent since; pollers wait longer than this for room anyway.
pub const QUEUE_COUNTED_FOR: Duration = Duration::from_secs(2);
/// A received message stays hidden this long unless extended [Q5].
pub const VISIBILITY: Duration = Duration::from_secs(30);

/// Envelopes of one bulk tier in hand: enough to keep the sink busy while the next receive is under way.
pub const HAND_ENVELOPES: usize = 64;
/// CRITICAL envelopes in hand [P7].
pub const HAND_CRITICAL: usize = 500;
/// CRITICAL sends in parallel [P7].
pub const CRITICAL_PARALLEL: usize = 4;
/// More CRITICAL waiting than this puts all four tiers into shares of 6 : 3 : 2 : 1 [P4].
pub const CRITICAL_FLOOD: u64 = 500;
/// Records given to the sink and not yet settled, over the bulk tiers: the bound of duplicates after a crash [K6], and
/// small enough that CRITICAL finds the broker responsive.
pub const BULK_IN_FLIGHT_RECORDS: usize = 8_000;
/// Envelopes in flight, the other half of K6's bound.
pub const BULK_IN_FLIGHT_ENVELOPES: usize = 16;
/// Envelopes of a tier that stay in hand behind an open breaker, of as many streams, after as many failed probes: the one whose
/// own topic is away must not be the only one that is ever tried.
pub const PROBES: usize = 8;
/// Envelopes of a tier that are received and parked behind these, at the most: a second's work, and few of 10,000.
pub const PARKED: usize = 256;
/// Envelopes of a stream that keeps its order which go together, so that small ones do not wait for an answer each: half of what
/// may be in flight, for the other tiers' sake.
pub const RUN_ENVELOPES: usize = 8;

/// One try of a send: what the sink has not acknowledged by then it gives up, so that three tries are seconds, not
/// minutes [R1].
pub const TRY: Duration = Duration::from_secs(2);
/// A try may end this much later: librdkafka looks only once a second for records whose time is over.
pub const TRY_ENDS_LATE: Duration = Duration::from_secs(1);
/// Waits before the tries of one bulk send [R1].
pub const TRY_WAITS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(4)];
/// Waits before the tries of one CRITICAL send: an alert goes out within 2 s of the broker's return [R2].
pub const TRY_WAITS_CRITICAL: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1)];
/// Failed tries in a row that open the breaker [R2].
pub const BREAKER_FAILURES: u32 = 3;
/// How long the bulk lane's breaker stays open before its probe, unless a sign of the broker's return comes [R2].
pub const BREAKER_OPEN: Duration = Duration::from_secs(60);
/// The critical lane probes every second: a minute is too long for a life [R2].
pub const BREAKER_OPEN_CRITICAL: Duration = Duration::from_secs(1);
/// What other processes say of the sink is looked at again after this; news of one's own is told at once [R2].
pub const BREAKER_SHARED: Duration = Duration::from_secs(1);
/// A probe that has not reported by then is replaced: longer than a try lasts.
pub const PROBE: Duration = Duration::from_secs(10);
/// While the bulk lane's breaker is open, the broker is asked whether it answers, and the answer is waited for so long.
pub const ASK_FOR_RETURN: Duration = Duration::from_secs(1);
/// It is asked again so soon after: a returned broker is noticed before a person would.
pub const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The CRITICAL queue's write starts when the broker has not acknowledged by then [E2].
pub const HEDGE: Duration = Duration::from_millis(50);
/// So long after the answer the store is asked to keep what is known of an alert that it did not take in time: as long as a
/// try at the broker goes on, which whoever ends or freezes the process waits for anyway.
pub const KNOWN_LATER: Duration = Duration::from_secs(5);
/// The queue's copy of an alert is not received before the broker's try for it has ended.
pub const COPY_DELAY: Duration = TRY.saturating_add(TRY_ENDS_LATE);
/// Alerts whose try at the broker may be under way at once; beyond them an alert goes to the queue at once. So many
/// come from 64 senders in the time of a try, and each holds a few kilobytes.
pub const TRIES_UNDER_WAY: usize = 4_000;

/// A pushed alert's body; IPAWS messages stay well below.
pub const ALERT_BYTES: usize = 256 * 1024;
/// A wire service's header before the XML of an alert is looked for so far: it has a few short lines.
pub const PREFACE_BYTES: usize = 1024;
/// One pushed sensor reading (AWS IoT allows 128 KB).
pub const READING_BYTES: usize = 128 * 1024;
/// Fields of a reading that `quality` names as not understood; the rest is counted. A device repeats them in each reading.
pub const UNREAD_NAMED: usize = 16;
/// What is shown of such a name, in characters.
pub const UNREAD_NAME_CHARS: usize = 48;
/// Mappings of one's own sensors in a deployment: one a kind of device. They share one item of the store.
pub const SENSOR_MAPPINGS: usize = 200;
/// Fields that a mapping names, and as many that it ignores.
pub const MAPPED_FIELDS: usize = 200;
/// A polled response, unpacked.
pub const RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// Pages of one address in a poll; NWS's alerts of the whole country fill two or three of 500.
pub const FEED_PAGES: usize = 20;
/// Entries of an index of alerts that are looked at, its first ones; a whole country has some hundred in force.
pub const FEED_ENTRIES: usize = 1_000;
/// Documents that one poll of such an index asks for: a host that renews all of its alerts at once is not overrun.
pub const FEED_DOCUMENTS: usize = 40;
/// Of more documents than that the newest, which are asked for first: what is ordered now does not wait for a backlog.
pub const FEED_NEWEST: usize = 10;
/// A poll of many addresses ends after this, and goes on at the stream's next one: an invocation has a minute, and one more
/// request may take its turn and its answer.
pub const ROUND: Duration = Duration::from_secs(30);
/// Requests of a look at a stream before it runs: it shows that source, key and place are right, and costs little of a quota.
pub const PROBE_REQUESTS: usize = 20;
/// A poll waits so long for its turn at a host that is asked one request at a time.
pub const HOST_TURN_WAIT: Duration = Duration::from_secs(12);
/// A turn at a host ends by then: longer than a request and the pause behind it take.
pub const HOST_TURN: Duration = Duration::from_secs(30);
/// What lists of values may become as one object a row: what describes them all is repeated in each.
pub const EXPANDED_BYTES: usize = 4 * RESPONSE_BYTES;
/// Names of alerts that a process remembers; an agency sends few, and the store knows the rest.
pub const ALERTS_KNOWN: usize = 5_000;
/// Contents that are known of one alert, the last ones [S12].
pub const CONTENTS_OF_EVENT: usize = 4;
/// Contents that are known under one name, by which a sender may send at several times, and drills.
pub const CONTENTS_OF_NAME: usize = 32;
/// The shape in an alert that is derived of another record: its thread is stored with three of them at the most (of the last message,
/// of the one that waits, of what was told since), and an item of the store holds that.
pub const DERIVED_SHAPE_BYTES: usize = 80 * 1024;
/// Each text in such an alert.
pub const DERIVED_TEXT_BYTES: usize = 4 * 1024;
/// An alert waits so long for a message that it refers to [E4]: an asynchronous invocation beside it is long through.
pub const REFERENCE_WAIT: Duration = Duration::from_secs(2);
/// A message that was sent before this time is not on its way any more, and nothing waits for it. Its events live a
/// minute, and after that it is tried again from a queue.
pub const REFERENCE_AGE: Duration = Duration::from_secs(3600);
/// References of one alert that are looked up; threads have a few messages.
pub const REFERENCES_LOOKED_UP: usize = 32;
/// Warnings in one reply; the record's `quality` has all of them.
pub const WARNINGS: usize = 20;
/// A thread's first message is found as long as its topic keeps it [K2].
pub const THREAD_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A column's name: each row is read under the names of all of them.
pub const COLUMN_NAME_BYTES: usize = 512;
/// Columns of a table that are named in a record because they are not understood; the rest is counted.
pub const COLUMNS_NAMED: usize = 20;
/// Quotes in one table that nobody closed: behind each the rest is read again. With more of them it is no table.
pub const TABLE_MENDS: usize = 100;
/// Memory that a decoder may take for any input: tables of names, rooms that a parser begins with [A6].
pub const DECODE_BASE_BYTES: usize = 256 * 1024;
/// Memory that it may take for each byte of an input, beside the input: what `tests/fuzz` holds every decoder to.
/// serde_json keeps 700 bytes of an object `{"":0}`, and some decoders a second form of it.
pub const DECODE_BYTES_A_BYTE: usize = 256;
/// One item of a document, which is taken into memory whole: a record larger than [`RECORD_VALUE_BYTES`] is not published, but the item
/// may have blanks and long names.
pub const ITEM_BYTES: usize = 4 * 1024 * 1024;
/// Looks from a ring of one shape at another one's corners, which find out what is a hole of what: half a second's. The largest fires have
/// some thousand rings, nearly all of them in one outer ring.
pub const RING_LOOKS: usize = 500_000_000;
/// What is looked at of a recorded body to tell its format: some rows of any of them.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Values of one answer for sensors, which is taken into memory whole: PurpleAir's for all of its sensors has a million.
pub const ANSWER_VALUES: usize = 2_000_000;
/// Nesting of XML and JSON input.
pub const INPUT_DEPTH: usize = 64;
/// Original bytes kept inline with a dead letter; the rest goes to blobs.
pub const DEAD_LETTER_INLINE_BYTES: usize = 4 * 1024;

/// What a dead letter says of its fault, in characters: some lines for people.
pub const DEAD_LETTER_DETAIL_CHARS: usize = 2_000;
/// The header line that a row of a table keeps; FIRMS writes 150 bytes. Without it the row cannot be redriven.
pub const DEAD_LETTER_HEADER_BYTES: usize = 4 * 1024;
/// Times of attempts that a letter keeps, the last ones: a row that each poll reads again has thousands.
pub const DEAD_LETTER_TIMES: usize = 10;
/// What it shows of its sender's topic, client, principal and sensor, in characters each; AWS IoT's are at most 256 bytes.
pub const DEAD_LETTER_SENDER_CHARS: usize = 512;
// A letter fits into an item of the store, whatever strangers wrote: JSON makes six bytes of a control character; the ids,
// times and names of its fields have a few hundred.
const _: () = assert!(
    DEAD_LETTER_INLINE_BYTES * 2
        + 6 * (DEAD_LETTER_DETAIL_CHARS + 7 * DEAD_LETTER_SENDER_CHARS + DEAD_LETTER_HEADER_BYTES)
        + 40 * DEAD_LETTER_TIMES
        + 4 * 1024
        < crate::store::VALUE_BYTES
);

/// Dead letters that one stream keeps, those apart that were accepted before: enough to see every kind of fault; the rest is
/// counted [Q2].
pub const DEAD_LETTERS_OF_STREAM: u64 = 1_000;
/// Dead letters of all streams and connectors that are registered: a hundred of them, each with all that it may keep.
pub const DEAD_LETTERS: u64 = 100_000;
/// Dead letters of everybody else together: anybody can make up the name of a sensor's kind, and must not use up what is
/// for the registered ones.
pub const DEAD_LETTERS_PUSHED: u64 = 10_000;
/// Bytes of one stream's dead letters: two of the largest bodies that a poll reads, or a thousand of the largest readings.
pub const DEAD_LETTER_BYTES_OF_STREAM: u64 = 2 * RESPONSE_BYTES as u64;
/// Bytes of all registered streams' dead letters: a small part of a host's disk.
pub const DEAD_LETTER_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Bytes of everybody else's.
pub const DEAD_LETTER_BYTES_PUSHED: u64 = 512 * 1024 * 1024;
/// A full count is made anew when it is older: letters expire.
pub const DEAD_LETTERS_RECOUNTED: Duration = Duration::from_secs(60 * 60);
/// Stored bytes without a letter are dropped after this: far longer than it takes to write a letter after its bytes.
pub const DEAD_LETTER_SWEPT_AFTER: Duration = Duration::from_secs(60 * 60);
/// A dead letter that is not seen again expires.
pub const DEAD_LETTER_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Between two letters of a redrive: 50 a second at most, so that live data is not held up.
pub const REDRIVE_STEP: Duration = Duration::from_millis(20);
/// Letters of one page of a redrive.
pub const REDRIVE_PAGE: usize = 200;
/// One page of a redrive ends after this; an HTTP API waits 29 s.
pub const REDRIVE_PAGE_TIME: Duration = Duration::from_secs(10);
/// With more messages in a tier's queue a redrive waits: a tenth of its capacity.
pub const REDRIVE_QUEUED: u64 = QUEUE_CAPACITY / 10;
/// Letters that one request purges; each takes a few writes.
pub const PURGE_PAGE: usize = 500;
/// Source ids that metrics name one by one; readings of further made-up kinds share one label [Q2].
pub const LABELLED_SOURCES: usize = 200;

/// Records that ingest takes the whole way into the queues at once [M2].
pub const BATCH_RECORDS: usize = 1_000;
/// A source slower than this three times in a row opens its breaker [S10]; also the request timeout.
pub const SLOW_RESPONSE: Duration = Duration::from_secs(10);

/// Rows of a layer that are asked for at once [M2]; shapes have many points.
pub const LAYER_PAGE: u64 = 500;
/// Pages of one poll of a layer: 50,000 rows, or a service that never says that it has ended.
pub const LAYER_PAGES: u64 = 100;
/// Pages of one poll of a layer of many years, which is read once: 10,000 rows by 41 requests.
pub const LAYER_BATCHES: u64 = 20;
/// A layer that says that it has not changed is read all the same when it was read this long ago: what it says of itself comes
/// from a cache, for up to an hour.
pub const LAYER_REREAD: Duration = Duration::from_secs(10 * 60);
/// Bytes of what a layer's stream keeps of the rows for its next poll, of which a store's item holds more than twice as many.
pub const LAYER_MEMORY_BYTES: usize = 160 * 1024;

/// Shapes of the rows of one zone that are united in its record, which must stay well below [`RECORD_VALUE_BYTES`].
pub const ZONE_SHAPES_BYTES: usize = 256 * 1024;

/// Contents of one key that are known: a source that goes back to one of them says nothing new [S12].
pub const CONTENTS_KNOWN: usize = 4;
/// A turn of the seen-set that is not given back ends by then: its holder died. A judgement and its commit take milliseconds.
pub const SEEN_TURN: Duration = Duration::from_secs(10);
/// A long body lets the next stream of its source have a turn after this.
pub const SEEN_TURN_SHARE: Duration = Duration::from_secs(1);
/// Marks of the seen-set in memory; beyond that hours are read again when they are needed.
pub const SEEN_HELD_MARKS: usize = 2_000_000;
/// Pages of one hour that are not full and are merged into full ones.
pub const SEEN_MERGED_PAGES: usize = 32;
/// What a shard pushed is known so long [S12].
pub const SHARD_KNOWN: Duration = Duration::from_secs(5 * 60);
/// Marks of one shard in memory: more than Kinesis lets through in that time, 1,000 records a second.
pub const SHARD_KNOWN_MARKS: usize = 400_000;
/// Shards whose windows a process keeps.
pub const SHARDS_KNOWN: usize = 1_000;
/// A seen-set page; DynamoDB's item bound is 400 KB.
pub const SEEN_PAGE_BYTES: usize = 256 * 1024;
/// How long past its observation hour a seen-set hour is kept: longer than any window a source re-reads.
pub const SEEN_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long an event is known at least whose key holds no time, since it was last seen: lists of a year's fires and of zones show the
/// same row for months. Twice as long at most.
pub const SEEN_KEPT_LASTING: Duration = Duration::from_secs(400 * 24 * 3600);

/// A name of a fire is known so long after it was last given one: longer than a fire is written about.
pub const FIRE_NAMES_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Fires of one name in one county that are known, the last ones.
pub const FIRES_OF_NAME: usize = 8;
/// The place of a fire that nobody tells of is kept so long.
pub const FIRE_TOLD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Records whose places are known of one fire, the last ones: a complex has dozens.
pub const FIRE_PLACES: usize = 32;
/// Corners of one record's perimeter, at the most: with 32 of them a fire is far below the store's bound for an item.
pub const FIRE_POINTS: usize = 256;
/// Fires of a tenant that detections are joined to; the whole country has a thousand in August.
pub const FIRES_BURNING: usize = 4_000;
/// What burns is looked up this often at most: perimeters come every five minutes.
pub const FIRES_LOOKED_UP: Duration = Duration::from_secs(30);
/// Tenants whose fires a process knows.
pub const FIRE_TENANTS: usize = 100;
/// Calls of one reader of the store that are under way together.
pub const STORE_CALLS_AT_ONCE: usize = 256;

/// The lease of who delivers; fenced by its epoch.
pub const LEASE: Duration = Duration::from_secs(5);
/// A deliver invocation stops taking work this long before its end.
pub const DELIVER_MARGIN: Duration = Duration::from_secs(30);
/// A stored time that is later than now by more than this was written before the clock was set back [M4]: hosts' clocks
/// agree better than that.
pub const STORED_AHEAD: Duration = Duration::from_secs(2);
/// Sub-minute ticks are planned this far ahead [M4].
pub const TICK_HORIZON: Duration = Duration::from_secs(120);

// ---- Who asks ----

/// A cached connector is read anew after this, so that a rotation elsewhere is noticed.
pub const CONNECTOR_FRESH: Duration = Duration::from_secs(10);
/// So long the store is waited for about a caller who was not seen lately: who asks still has time to send it again.
pub const CONNECTOR_READ: Duration = Duration::from_secs(5);
/// With the state store away a cached connector stays valid this long [A3].
pub const CONNECTOR_VALID_WITHOUT_STORE: Duration = Duration::from_secs(15 * 60);
/// Alerts that a sender may send at once, in the time that its pace takes for them: an agency orders a county's zones together.
pub const SENDER_BURST: Duration = Duration::from_secs(6);
/// Messages that a call moves out of a dead-letter queue, and looks at.
pub const GIVEN_UP_PAGE: usize = 200;
/// Such a call ends by then, and its caller comes again: an HTTP API waits half a minute.
pub const GIVEN_UP_PAGE_TIME: Duration = Duration::from_secs(15);
/// What is shown of such a message's text, in characters.
pub const GIVEN_UP_TEXT_CHARS: usize = 4_000;
/// Connectors that a process caches; far more than there are senders.
pub const CONNECTORS_CACHED: usize = 1_000;
/// Audit entries in one minute that are written one by one for whoever caused them. Beyond them one is written whenever their
/// number has doubled: nobody must be able to fill the audit log [A5, Q2].
pub const AUDITED_A_MINUTE: u64 = 60;
/// Counters of audit entries, one for whoever causes some; those of an earlier minute are dropped first.
pub const AUDIT_COUNTERS: usize = 1_000;
