//! Archives as streams: each is read part by part to its end [M1, M4, S6], whatever fails in the middle, and paid for no more than it
//! may be [S11].

use super::*;
use streammanager::connect::Cursor;
use streammanager::schedule::{streams, ticks};
use streammanager_tests::archives::{FIRMS_LAST, table};

/// An archive, and what is in it.
struct Archive {
    source: &'static str,
    connector: &'static str,
    config: &'static str,
    records: usize,
    requests: usize,
    /// What `streams check` says.
    takes: &'static str,
}

const ARCHIVES: [Archive; 4] = [
    Archive {
        source: "historical_firms_snpp",
        connector: "firms_archive",
        config: "{product: VIIRS_SNPP_SP, area: [-124.5, 32.5, -114.1, 42.1], start: 2026-03-30, end: 2026-04-21}",
        records: 23,
        requests: 6,
        takes: "23 days by 6 requests, about 1 min",
    },
    Archive {
        source: "historical_calfire",
        connector: "calfire_history",
        config: "{first_year: 2013, last_year: 2019}",
        records: 21,
        requests: 7,
        takes: "7 years by 7 requests, about 2 min",
    },
    Archive {
        source: "historical_fpa_fod",
        connector: "fpa_fod",
        config: "{url: 'https://files.test/fires.csv'}",
        records: 220,
        requests: 3,
        takes: "it has an end; how many bytes there are its source says at the first poll",
    },
    Archive {
        source: "historical_purpleair_60",
        connector: "purpleair_history",
        config: "{sensors: [7, 9, 8], start: '2026-03-01T00:00:00Z', end: '2026-05-15T00:00:00Z', average: 60, fields: [temperature, pm2.5_atm], points_a_day: 100000}",
        records: 226,
        requests: 9,
        takes: "9 windows of 720 h by 9 requests and 16245 points, about 2 min",
    },
];

impl Archive {
    fn file(&self) -> String {
        file(self.source, self.connector, "60s", self.config)
    }

    async fn world(&self) -> World {
        let world = World::new(&self.file()).await;
        world.services.stands_at("fires.csv", &table(220));
        let start = "2026-03-01T00:00:00Z".parse::<streammanager::time::Timestamp>().unwrap();
        let measured = (0..113).flat_map(|n| {
            let at = (start + Duration::from_secs(n * 16 * 3600)).to_string();
            [Measured::new("7", &at, n as f64), Measured::new("8", &at, None)]
        });
        // The last one stands at the end, which is not in the range.
        let last = [Measured::new("7", "2026-05-15T00:00:00Z", 1.0)];
        world.services.measured(&measured.chain(last).collect::<Vec<_>>());
        world
    }
}

/// Polls until it has ended; what came.
async fn to_the_end(world: &World) -> Vec<Published> {
    let mut came = Vec::new();
    for _ in 0..12 {
        came.extend(world.poll().await);
        if world.state().await.completed_at.is_some() {
            return came;
        }
    }
    panic!("it does not end: {:?}", world.state().await);
}

fn distinct(records: &[Published]) -> usize {
    records.iter().map(Published::identity).collect::<BTreeSet<_>>().len()
}

#[tokio::test(start_paused = true)]
async fn m1_every_archive_is_a_batch_that_is_read_to_its_end() {
    for archive in &ARCHIVES {
        let world = archive.world().await;
        let parsed = StreamsFile::parse(&archive.file()).unwrap();
        let told = parsed.streams[0].whole(&Cursor::default()).unwrap().to_string();
        assert_eq!(told, format!("one: {}", archive.takes));
        let status = world.status().await;
        assert_eq!((status.mode.as_str(), status.current_priority.as_str()), ("batch", "LOW"), "{}", archive.source);
        let records = to_the_end(&world).await;
        assert_eq!((records.len(), distinct(&records)), (archive.records, archive.records), "{}", archive.source);
        assert!(records.iter().all(|record| record.topic == "wildfire-historical" && record.tier == Tier::Low));
        assert!(records.iter().all(|record| record.value["source_id"] == archive.source));
        assert_eq!(world.services.asked().len(), archive.requests, "{}", archive.source);
        let status = world.status().await;
        let progress = status.progress.unwrap();
        assert_eq!(Some(progress.done), progress.whole, "{}", archive.source);
        assert_eq!((status.next_poll, status.poll.last_error, status.poll.missing), (None, None, None));
        assert!(world.poll().await.is_empty() && world.services.asked().is_empty(), "{} has ended", archive.source);
        if archive.connector == "calfire_history" {
            let incident = &records[0].value["incident"];
            assert_eq!(incident, &json!("calfire:fec1972c-dcdf-4a1c-a6ae-201300000001"), "as in today's list");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn m4_an_archive_that_was_killed_in_the_middle_goes_on_where_it_was() {
    for archive in &ARCHIVES {
        for during in 0..archive.requests.min(5) {
            let world = archive.world().await;
            world.services.fails_behind(during, Fault::Slow);
            let World { polled, services } = world;
            let world = World { polled: polled.killed().await, services };
            world.services.fails(Fault::None);
            assert_eq!(world.services.asked().len(), during);
            let progress = world.status().await.progress.unwrap();
            assert!(during < 2 || progress.done > 0, "{}: {progress:?}", archive.source);
            let records = to_the_end(&world).await;
            assert_eq!(
                (records.len(), distinct(&records)),
                (archive.records, archive.records),
                "{} {during}",
                archive.source
            );
            let counted = world.state().await.records_processed;
            assert_eq!(
                counted, archive.records as u64,
                "{} {during}: what was taken before is counted",
                archive.source
            );
            let asked = world.services.asked().len();
            assert_eq!(asked, archive.requests - during, "{} {during}: nothing is asked for again", archive.source);
        }
    }
}

/// Whatever an answer in the middle is, it costs its poll, and the next one goes on.
#[tokio::test(start_paused = true)]
async fn s10_a_fault_in_the_middle_of_an_archive_loses_nothing_and_repeats_nothing() {
    for archive in &ARCHIVES {
        for fault in [
            Fault::Away,
            Fault::Slow,
            Fault::Busy(Some(40)),
            Fault::Busy(None),
            Fault::Forbidden,
            Fault::Broken,
            Fault::PageIn200,
            Fault::ErrorIn200,
            Fault::Short,
            Fault::Empty,
            Fault::Moved,
        ] {
            for spared in [1, 2] {
                let world = archive.world().await;
                world.services.fails_behind(spared, fault);
                let mut records = world.poll().await;
                let state = world.state().await;
                let what = format!("{} {fault:?} behind {spared}", archive.source);
                assert!(state.completed_at.is_none(), "{what}");
                assert!(state.last_error.is_some() || state.missing.is_some(), "{what}: nothing is said");
                assert_eq!(state.records_failed, 0, "{what}: taken for data");
                assert!(!state.cursor.contains(KEY), "{what}");
                world.services.fails(Fault::None);
                tokio::time::advance(Duration::from_secs(900)).await;
                records.extend(to_the_end(&world).await);
                assert_eq!((records.len(), distinct(&records)), (archive.records, archive.records), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s6_an_archive_that_cannot_be_whole_is_not_taken_for_read() {
    // FIRMS gives out days that it does not have yet as days without fires.
    let late = ARCHIVES[0].config.replace("2026-04-21", "2026-06-01");
    let world = World::new(&file("historical_firms_snpp", "firms_archive", "60s", &late)).await;
    assert!(world.poll().await.is_empty());
    let state = world.state().await;
    let says = format!("VIIRS_SNPP_SP is there from 2012-01-20 to {FIRMS_LAST}: start and end must lie within");
    assert_eq!((state.last_error.as_deref(), state.completed_at), (Some(says.as_str()), None));
    // A year of CAL FIRE's without an incident is a glitch.
    let world = ARCHIVES[1].world().await;
    world.services.stands_at("/GeoJsonList", r#"{"type": "FeatureCollection", "features": []}"#);
    assert!(world.poll().await.is_empty());
    assert!(world.state().await.last_error.unwrap().contains("2013: its list is empty"));
    // A table that has changed is read anew, and what was known stays known.
    let world = ARCHIVES[2].world().await;
    world.services.fails_behind(1, Fault::Broken);
    assert!(!world.poll().await.is_empty());
    world.services.fails(Fault::None);
    world.services.stands_at("fires.csv", &table(221));
    let mut records = world.poll().await;
    assert!(world.state().await.last_error.unwrap().contains("the file has changed"));
    let asked = world.services.asked();
    let whole = asked.iter().filter(|asked| asked.status == 200 || asked.headers.contains_key("if-range")).count();
    assert_eq!(whole, 0, "nobody is asked for a changed file as a whole, which may be larger than an answer");
    records.extend(to_the_end(&world).await);
    assert!(records.iter().any(|record| record.data("fire_name") == "TEST 221"));
    assert_eq!(records.len(), distinct(&records));
    // One that has become shorter than what was read of it.
    let world = ARCHIVES[2].world().await;
    world.services.fails_behind(1, Fault::Broken);
    assert!(!world.poll().await.is_empty());
    world.services.fails(Fault::None);
    world.services.stands_at("fires.csv", &table(3));
    world.poll().await;
    assert!(world.state().await.last_error.unwrap().contains("the file has changed"));
    assert_eq!(to_the_end(&world).await.len(), 0, "its three fires were known");
}

/// A quote that nobody closes costs the row in which it stands.
#[tokio::test(start_paused = true)]
async fn s9_one_quote_too_many_in_a_table_does_not_stop_it() {
    let mut text =
        "FOD_ID,FIRE_NAME,DISCOVERY_DATE,FIRE_SIZE,LATITUDE,LONGITUDE,STATE,COUNTY,COMPLEX_NAME\n".to_owned();
    let long = "a line ".repeat(10_000);
    for n in 1..=90 {
        let name = if n == 40 { "\"TEST 40".to_owned() } else { format!("TEST {n}") };
        text += &format!("{n},{name},{}.5,12.5,39.5,-121.5,CA,Butte,{long}\n", 2_451_334 + n);
    }
    let world = ARCHIVES[2].world().await;
    world.services.stands_at("fires.csv", &text);
    let records = to_the_end(&world).await;
    let state = world.state().await;
    assert_eq!((records.len(), distinct(&records), state.records_failed), (89, 89, 1), "{:?}", state.last_error);
}

/// What has not happened yet is waited for, and not taken for nothing.
#[tokio::test(start_paused = true)]
async fn m1_a_range_that_reaches_into_the_future_is_read_when_its_time_is_over() {
    let at = |time: &str| time.parse::<streammanager::time::Timestamp>().unwrap();
    let purpleair = "{sensors: [7], start: '2026-07-01T00:00:00Z', end: '2026-08-02T00:00:00Z', average: 60, fields: [temperature], points_a_day: 5000}";
    let synoptic = "{stations: ['7'], start: '2026-07-31T00:00:00Z', end: '2026-08-02T00:00:00Z'}";
    let calfire = "{first_year: 2025, last_year: 2026}";
    for (source, connector, config, over, before, after) in [
        ("historical_purpleair_60", "purpleair_history", purpleair, "2026-08-02T00:00:00Z", 1, 1),
        ("synoptic_observations", "synoptic", synoptic, "2026-08-02T00:00:00Z", 1, 1),
        // A year ends in California.
        ("historical_calfire", "calfire_history", calfire, "2027-01-01T08:00:00Z", 3, 3),
    ] {
        let world = World::new(&file(source, connector, "60s", config)).await;
        let mut measured =
            vec![Measured::new("7", "2026-07-30T20:00:00Z", 1.0), Measured::new("7", "2026-07-31T12:00:00Z", 1.0)];
        measured.remove(usize::from(connector == "purpleair_history"));
        world.services.measured(&measured);
        assert_eq!(world.poll().await.len(), before, "{connector}");
        let state = world.state().await;
        assert!(state.completed_at.is_none(), "{connector}: {state:?}");
        let said = state.last_error.unwrap();
        assert!(said.contains("is not over") && said.ends_with(&at(over).to_string().replace('Z', ".000Z")), "{said}");
        assert!(state.last_success.is_some(), "{connector}: what came came");
        world.services.asked();
        assert!(world.poll().await.is_empty() && world.services.asked().is_empty(), "{connector}");
        world.services.measured(&[Measured::new("7", "2026-08-01T20:00:00Z", 2.0)]);
        let ahead = Duration::try_from(at(over).duration_since(world.now())).unwrap();
        tokio::time::advance(ahead).await;
        assert_eq!(to_the_end(&world).await.len(), after, "{connector}");
    }
}

/// A sensor that the service does not know costs itself alone.
#[tokio::test(start_paused = true)]
async fn s10_a_sensor_that_is_gone_does_not_stop_those_behind_it() {
    let config = ARCHIVES[3].config.replace("[7, 9, 8]", "[404, 7, 8]");
    let world = ARCHIVES[3].world().await;
    world.apply(&file("historical_purpleair_60", "purpleair_history", "60s", &config)).await;
    let records = world.poll().await;
    let missing = world.state().await.missing.unwrap();
    assert!(missing.contains("sensor 404") && missing.contains("NotFoundError"), "{missing}");
    assert_eq!(records.len() + to_the_end(&world).await.len(), 226);
    let asked = world.services.asked();
    assert_eq!(asked.iter().filter(|asked| asked.status == 404).count(), 1, "it is asked for once");
    assert_eq!(asked.len(), 7);
}

/// Nobody polls an archive that has ended, until somebody wants more of it.
#[tokio::test(start_paused = true)]
async fn m4_an_archive_that_has_ended_has_no_more_ticks() {
    let archive = &ARCHIVES[1];
    let world = archive.world().await;
    assert!(ticks::plan(&world.app).await.unwrap() > 0);
    to_the_end(&world).await;
    let rests = async |why: &str| {
        tokio::time::advance(Duration::from_secs(300)).await;
        assert_eq!(ticks::plan(&world.app).await.unwrap(), 0, "{why}");
    };
    rests("it has ended").await;
    world.apply(&archive.file()).await;
    rests("the same file").await;
    let stream = streams::list(&*world.app.store).await.unwrap().remove(0).spec.id;
    streams::set_started(&world.app, &stream, true, "a person").await.unwrap();
    assert!(ticks::plan(&world.app).await.unwrap() > 0, "started");
    assert!(world.poll().await.is_empty());
    rests("there was nothing more").await;
    world.apply(&archive.file().replace("2019", "2020")).await;
    assert!(ticks::plan(&world.app).await.unwrap() > 0, "another range");
    assert_eq!(to_the_end(&world).await.len(), 3);
    rests("that has ended too").await;
}

#[test]
fn s6_an_archives_config_is_checked_before_anything_is_asked() {
    let purpleair =
        |more: &str| format!("{{sensors: [7], start: '2026-03-01T00:00:00Z', end: '2026-05-15T00:00:00Z', {more}}}");
    for (source, connector, config, says) in [
        (
            "historical_firms",
            "firms_archive",
            ARCHIVES[0].config.replace("2026-03-30", "2026-05-30"),
            "streams[0].config.end: is before start",
        ),
        (
            "historical_firms",
            "firms_archive",
            ARCHIVES[0].config.replace("2026-03-30", "1999-03-30"),
            "streams[0].config.start: is before 2000-11-01",
        ),
        (
            "historical_calfire",
            "calfire_history",
            "{first_year: 2012, last_year: 2013}".into(),
            "streams[0].config.first_year: 2012 is not",
        ),
        (
            "historical_calfire",
            "calfire_history",
            "{first_year: 2015, last_year: 2013}".into(),
            "streams[0].config.last_year: is before",
        ),
        (
            "historical_fpa_fod",
            "fpa_fod",
            "{url: 'https://files.test/fires.csv.gz'}".into(),
            "streams[0].config.url: a file that ends in .gz",
        ),
        (
            "historical_fpa_fod",
            "fpa_fod",
            "{url: files.test}".into(),
            "streams[0].config.url: \"files.test\" is not an address",
        ),
        (
            "historical_purpleair",
            "purpleair_history",
            purpleair("points_a_day: 20"),
            "streams[0].config.points_a_day: 20 is less than",
        ),
        (
            "historical_purpleair",
            "purpleair_history",
            purpleair("average: 7, points_a_day: 5000"),
            "streams[0].config.average: 7 is none",
        ),
        (
            "historical_purpleair",
            "purpleair_history",
            purpleair("average: 60, fields: [latitude], points_a_day: 5000"),
            "streams[0].config.fields: latitude has no averages",
        ),
        (
            "wfigs_perimeters",
            "calfire_history",
            ARCHIVES[1].config.into(),
            "streams[0].source_id: wfigs_perimeters is read from wfigs",
        ),
    ] {
        let said = StreamsFile::parse(&file(source, connector, "60s", &config)).unwrap_err().to_string();
        assert!(said.starts_with(says), "{said}");
    }
    // What has no end must say how often it is polled.
    let without = file("calfire_incidents", "calfire", "60s", "{}").replace("interval: 60s, ", "");
    assert!(StreamsFile::parse(&without).unwrap_err().to_string().contains("missing field `interval`"));
    let wrong = ARCHIVES[1].file().replace("interval: 60s, ", "").replace("2013", "2012");
    let said = StreamsFile::parse(&wrong).unwrap_err().to_string();
    assert!(said.contains("first_year: 2012") && !said.contains("interval"), "{said}");
    let without = ARCHIVES[1].file().replace("interval: 60s, ", "");
    assert_eq!(StreamsFile::parse(&without).unwrap().streams[0].interval.get(), Duration::from_secs(60));
}

/// A call that fails is paid for on its day, and on no other.
#[tokio::test(start_paused = true)]
async fn s11_calls_that_fail_before_the_first_answer_cost_their_day_alone() {
    let history = "{sensors: [7], start: '2026-03-01T00:00:00Z', end: '2026-03-03T00:00:00Z', fields: [pm2.5_atm], points_a_day: 1000}";
    let live = "{area: [-124.5, 32.5, -114.1, 42.1], points_a_day: 30}";
    for (source, connector, config, failures) in [
        ("historical_purpleair", "purpleair_history", history, 5),
        ("historical_purpleair", "purpleair_history", history, 6),
        ("iot_purpleair", "purpleair", live, 6),
    ] {
        let world = World::new(&file(source, connector, "12h", config)).await;
        world.services.measured(&[Measured::new("7", "2026-03-01T11:58:00Z", 1.0)]);
        world.services.fails(Fault::Broken);
        for _ in 0..failures {
            world.poll().await;
            tokio::time::advance(Duration::from_secs(900)).await;
        }
        assert_eq!(world.services.asked().len(), failures);
        world.services.fails(Fault::None);
        let came = world.poll().await.len();
        if failures < 6 {
            assert_eq!(came, 1, "{connector}: some calls may fail in a day");
            continue;
        }
        let said = world.state().await.last_error.unwrap();
        assert!(came == 0 && said.contains("its points of the day are used up (30 of "), "{connector}: {said}");
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(world.poll().await.len(), 1, "{connector}: another day");
    }
}

/// S11: two days of one sensor, and points for a third of them a day.
#[tokio::test(start_paused = true)]
async fn s11_a_history_is_paid_for_day_by_day_within_its_points() {
    let config = "{sensors: [7], start: '2026-03-01T00:00:00Z', end: '2026-03-03T00:00:00Z', fields: [pm2.5_atm], points_a_day: 1000}";
    let text = file("historical_purpleair", "purpleair_history", "60s", config);
    let told = StreamsFile::parse(&text).unwrap().streams[0].whole(&Cursor::default()).unwrap().to_string();
    assert_eq!(told, "one: 3 windows of 17 h by 3 requests and 2895 points, about 2 days");
    let world = World::new(&text).await;
    let measured: Vec<Measured> = (0..1_440)
        .map(|n| {
            let start = "2026-03-01T00:00:00Z".parse::<streammanager::time::Timestamp>().unwrap();
            Measured::new("7", &(start + Duration::from_secs(n * 120)).to_string(), n as f64)
        })
        .collect();
    world.services.measured(&measured);
    let mut records = world.poll().await;
    assert_eq!(
        (records.len(), world.services.asked().len()),
        (485, 1),
        "970 points and 5 for the call; 25 are kept for calls that fail"
    );
    let said = world.state().await.last_error;
    world.poll().await;
    let waiting = world.state().await.last_error.unwrap();
    assert!(waiting.contains("its points of the day are used up (975 of 1000)"), "{said:?} {waiting}");
    assert!(world.services.asked().is_empty(), "nothing is asked for that cannot be paid");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(86_400)).await;
        records.extend(world.poll().await);
    }
    assert_eq!((records.len(), distinct(&records)), (1_440, 1_440));
    assert!(world.state().await.completed_at.is_some());
}

/// S12: a reading has one event through both doors, and the door that tells less never revises the other one.
#[tokio::test(start_paused = true)]
async fn s12_a_reading_of_the_history_is_the_event_that_it_was_live() {
    let fields = "fields: [last_seen, latitude, longitude, temperature, pm2.5_atm]";
    let live = file(
        "iot_purpleair",
        "purpleair",
        "12h",
        &format!("{{area: [-124.5, 32.5, -114.1, 42.1], {fields}, points_a_day: 1000}}"),
    );
    let history = |more: &str| {
        let range = "sensors: [7], start: '2026-08-01T00:00:00Z', end: '2026-08-01T12:00:00Z'";
        file("iot_purpleair", "purpleair_history", "60s", &format!("{{{range}, points_a_day: 5000, {more}}}"))
    };
    let raw = history("fields: [latitude, longitude, temperature, pm2.5_atm]");
    let mut ids = Vec::new();
    for doors in [[&live, &raw], [&raw, &live]] {
        let world = World::new(doors[0]).await;
        world.services.data_at("2026-08-01T11:59:30Z".parse().unwrap());
        world.services.measured(&[Measured::new("7", "2026-08-01T11:58:00Z", 12.5)]);
        let first = world.records().await;
        world.apply(doors[1]).await;
        let second = world.poll().await;
        assert_eq!((first[0].topic, first[0].tier), ("wildfire-iot-sensors", Tier::Normal));
        for field in ["temperature_c", "sensor_id", "measured_at"] {
            assert!(second.iter().all(|record| record.data(field) == first[0].data(field)), "{field}");
        }
        // What tells more comes later: then it is the event's revision.
        let expected = if std::ptr::eq(doors[0], &live) { vec![] } else { vec![(first[0].identity().0, 1)] };
        assert_eq!(second.iter().map(Published::identity).collect::<Vec<_>>(), expected);
        ids.push(first[0].identity());
    }
    assert_eq!(ids[0], ids[1]);
    let averages = World::new(&history("average: 60")).await;
    assert!(averages.poll().await.is_empty() && averages.services.asked().is_empty());
    assert!(
        averages.state().await.last_error.unwrap().contains("averages are published under historical_purpleair_60")
    );
    // An hour's average is no reading of its first minute, nor the day's average.
    for (source, average, says) in [
        ("historical_purpleair", 60, "historical_purpleair is of readings"),
        ("historical_purpleair_60", 0, "historical_purpleair_60 is of averages of 60 minutes"),
        ("historical_purpleair_60", 1440, "historical_purpleair_60 is of averages of 60 minutes"),
    ] {
        let text = history(&format!("average: {average}, fields: [temperature]"))
            .replace("source_id: iot_purpleair", &format!("source_id: {source}"));
        let world = World::new(&text).await;
        assert!(world.poll().await.is_empty() && world.services.asked().is_empty(), "{source} {average}");
        assert!(world.state().await.last_error.unwrap().starts_with(says), "{source} {average}");
    }
}
