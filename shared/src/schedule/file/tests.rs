use super::*;

const GOOD: &str = "version: 1
streams:
  - id: viirs-snpp
    source_id: firms_viirs_snpp
    connector: firms
    tenant: cal-fire
    interval: 60s
    config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}
";

/// The config over several lines, before its connector, behind another stream and with the shapes that people write.
const WIDE: &str = "# streams of one agency
version: 1
streams:
  - {id: first, source_id: firms_viirs_snpp, connector: firms, tenant: cal-fire, interval: 60s,
     config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}}

  # the second
  - config:
      # one box
      area:
        - -124.5
        - 32.5
        - -114.1
        - 42.1
      \"days\": 2
      product: MODIS_NRT
    id: second
    source_id: firms_modis
    connector: firms
    tenant: cal-fire
    interval: \"5m\"
";

#[test]
fn a_good_file_is_read_and_bad_ones_say_where() {
    let file = StreamsFile::parse(GOOD).unwrap();
    assert_eq!(file.streams[0].interval.get(), Duration::from_secs(60));
    let Polled::Firms(config) = &file.streams[0].polled else { panic!("another connector") };
    assert_eq!(config.days, 1);
    for (from, to, says) in [
        ("interval: 60s", "interval: 60", "interval"),
        ("interval: 60s", "interval: 0s", "at least 1s"),
        ("interval: 60s", "interval: 4294967295d", "at most 366d"),
        ("tenant: cal-fire", "tenant: cal-fire\n    colour: red", "line 7"),
        (
            "version: 1",
            "colour: red\nversion: 1",
            "`colour`, expected one of `version`, `streams`, `sensors`, `mqtt` at line 1",
        ),
        ("source_id: firms_viirs_snpp", "source_id: evacuation_alert_x", "critical grant"),
        ("source_id: firms_viirs_snpp", "source_id: tweets", "route table"),
        ("version: 1", "version: 2", "version"),
        ("area: [-124.5, 32.5, -114.1, 42.1]", "area: [-124.5, 32.5, -114.1, 42.1], days: 9", "config.days"),
        ("connector: firms", "connector: fax", "fax"),
    ] {
        let error = StreamsFile::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(says), "{to:?} said {error:?}, not {says:?}");
    }
    let twice = format!("{GOOD}{}", GOOD.split_once("streams:\n").unwrap().1);
    assert!(StreamsFile::parse(&twice).unwrap_err().to_string().contains("another stream has"));
}

/// Whatever is wrong, the place is that of its field: not of its stream, not of its config.
#[test]
fn a_wrong_field_is_told_with_its_own_line_and_column() {
    assert_eq!(StreamsFile::parse(WIDE).unwrap().streams.len(), 2);
    for (text, from, to, field) in [
        (GOOD, "42.1]}", "42.1], days: 9}", "streams[0].config.days: 9 is not in 1..5 at line 8 column 75"),
        (
            GOOD,
            "42.1]}",
            "42.1], days: two}",
            "streams[0].config.days: invalid type: string \"two\", expected u8 at line 8 column 75",
        ),
        (
            GOOD,
            "42.1]}",
            "42.1], colour: red}",
            "streams[0].config.colour: unknown field `colour`, expected one of `product`, `area`, `days` at line 8 column 75",
        ),
        (
            GOOD,
            "32.5,",
            "x,",
            "streams[0].config.area[1]: invalid type: string \"x\", expected f64 at line 8 column 54",
        ),
        (
            GOOD,
            "interval: 60s",
            "interval: 60",
            "streams[0].interval: invalid type: integer `60`, expected a string at line 7 column 5",
        ),
        (GOOD, "interval: 60s", "interval: 0s", "at line 7 column 5"),
        (GOOD, "firms_viirs_snpp", "tweets", "at line 4 column 5"),
        (GOOD, "viirs-snpp", "viirs snpp", "at line 3 column 5"),
        (GOOD, "version: 1", "version: 2", "version: 2 is not known; this program reads version 1 at line 1 column 1"),
        (WIDE, "version: 1", "version: one", "at line 2 column 1"),
        (WIDE, "days\": 2", "days\": 6", "streams[1].config.days: 6 is not in 1..5 at line 15 column 7"),
        (
            WIDE,
            "days\": 2",
            "days\": 1000",
            "streams[1].config.days: invalid value: integer `1000`, expected u8 at line 15 column 7",
        ),
        (WIDE, "days\": 2", "days\": 2\n      days: 3", "days is given twice at line 16 column 7"),
        (WIDE, "product: MODIS_NRT", "product: MODIS", "at line 16 column 7"),
        (
            WIDE,
            "product: MODIS_NRT",
            "prodct: MODIS_NRT",
            "streams[1].config.prodct: unknown field `prodct`, expected one of `product`, `area`, `days` at line 16 column 7",
        ),
        (
            WIDE,
            "        - 42.1",
            "        - 142.1",
            "streams[1].config.area: west, south, east, north must be degrees in range at line 10 column 7",
        ),
        (
            WIDE,
            "        - 42.1",
            "        - .nan",
            "streams[1].config.area[3]: invalid type: null, expected f64 at line 14 column 11",
        ),
        (WIDE, "        - 42.1", "        - [1]", "at line 14 column 11"),
        (WIDE, "        - 42.1", "        - 42.1\n        - 5", "streams[1].config.area"),
        (
            WIDE,
            "        - 42.1\n",
            "",
            "streams[1].config.area: invalid length 3, expected an array of length 4 at line 10 column 7",
        ),
        (WIDE, "      product: MODIS_NRT\n", "", "streams[1].config: missing field `product` at line 8 column 5"),
        (WIDE, "    connector: firms\n", "", "streams[1]: missing field `connector` at line 8 column 5"),
        (WIDE, "id: second", "id: first", "streams[1].id: another stream has the id first already at line 17 column 5"),
        (WIDE, "    tenant: cal-fire\n", "    tenant: cal-fire\n    <<: {a: 1}\n", "at line 21 column 5"),
        (WIDE, "streams:\n", "streams: 5\nx:\n", "at line"),
    ] {
        assert!(text.contains(from), "{from:?}");
        let error = StreamsFile::parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(field), "{to:?} said {error:?}, not {field:?}");
        let windows = StreamsFile::parse(&text.replacen(from, to, 1).replace('\n', "\r\n")).unwrap_err().to_string();
        assert_eq!(windows, error, "with the line ends of Windows");
    }
}

#[test]
fn every_broken_rule_of_a_config_is_told_where_it_stands() {
    let file = "version: 1
streams:
  - id: a
    source_id: firms_viirs_snpp
    connector: firms
    tenant: t
    interval: 60s
    config:
      product: MODIS_NRT
      area: [10, 32, 5, 42]
      days: 9
  - id: b
    source_id: synoptic_observations
    connector: synoptic
    tenant: t
    interval: 60s
    config:
      area: [10, 32, 5, 42]
      networks: []
      variables: [air temp]
      recent_minutes: 0
  - id: c
    source_id: layer_c
    connector: layers
    tenant: t
    interval: 60s
    config:
      url: nowhere
      key: []
      time: 'a b'
      query:
        where: ''
        simplify: -1
";
    let Mistakes { mistakes, .. } = StreamsFile::parse(file).unwrap_err();
    let told: Vec<(usize, usize, &str)> =
        mistakes.iter().map(|wrong| (wrong.line, wrong.column, wrong.field.as_str())).collect();
    assert_eq!(
        told,
        [
            (10, 7, "streams[0].config.area"),
            (11, 7, "streams[0].config.days"),
            (18, 7, "streams[1].config.area"),
            (19, 7, "streams[1].config.networks"),
            (20, 7, "streams[1].config.variables"),
            (21, 7, "streams[1].config.recent_minutes"),
            (28, 7, "streams[2].config.url"),
            (29, 7, "streams[2].config.key"),
            (30, 7, "streams[2].config.time"),
            (32, 9, "streams[2].config.query.where"),
            (33, 9, "streams[2].config.query.simplify"),
        ]
    );
}

/// Whoever mends a file is told all of it at once, in the order of the text.
#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    const MANY: &str = "version: 1
colour: red
streams:
  - id: first stream
    source_id: firms_viirs_snpp
    connector: firms
    tenant: cal-fire
    interval: 60
    config: {product: VIIRS_SNPP_NRT, area: [-124.5, x, -114.1, 42.1], days: 9, colour: red}
  - 5
  - {id: same, source_id: tweets, connector: firms, tenant: t, interval: 60s, config: {product: MODIS_NRT, area: [-124, 32, -114, 42], days: 9}}
  - {id: same, source_id: noaa_alerts, connector: nws_alerts, tenant: t, interval: 1s, config: {areas: [CA]}}
  - {id: same, source_id: tweets, connector: nws_alerts, tenant: t, interval: 1s, config: {areas: [CA]}}
  - {source_id: noaa_alerts, tenant: t, interval: 60s, config: {}}
sensors:
  - {topic: sensors/a/+/state, fields: {x: {field: nothing}, y: {field: temperature_c, unit: stone}, z: {unit: degC}}}
  - {topic: sensors/b/+/state}
  - {topic: other/c, source_id: noaa_alerts, fields: {x: {field: temperature_c}}}
mqtt:
  - {id: butte, url: nowhere, topics: [{filter: a/#/b, kind: x, device: 1}, {filter: a, kind: x}], retries: 2}
  - {id: yuba, url: 'https://x:1', password_setting: P, topics: []}
";
    let Mistakes { mistakes, more } = StreamsFile::parse(MANY).unwrap_err();
    let told: Vec<(usize, &str)> = mistakes.iter().map(|wrong| (wrong.line, wrong.field.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "colour"),
            (4, "streams[0].id"),
            (8, "streams[0].interval"),
            (9, "streams[0].config.area[1]"),
            (9, "streams[0].config.colour"),
            (10, "streams[1]"),
            (11, "streams[2].config.days"),
            (12, "streams[3].interval"),
            (13, "streams[4].id"),
            (13, "streams[4].source_id"),
            (13, "streams[4].interval"),
            (14, "streams[5]"),
            (14, "streams[5]"),
            (16, "sensors[0].fields.z"),
            (17, "sensors[1]"),
            (18, "sensors[2].topic"),
            (18, "sensors[2].source_id"),
            (20, "mqtt[0].retries"),
            (21, "mqtt[1].url"),
            (21, "mqtt[1].password_setting"),
            (21, "mqtt[1].topics"),
        ],
        "{mistakes:#?}"
    );
    assert_eq!(more, 0);
    let text = StreamsFile::parse(MANY).unwrap_err().to_string();
    assert!(text.starts_with("21 mistakes:\n  colour: unknown field `colour`") && text.lines().count() == 22, "{text}");
    let missing: Vec<&str> = mistakes.iter().filter(|m| m.field == "streams[5]").map(|m| m.rule.as_str()).collect();
    assert_eq!(missing, ["missing field `id`", "missing field `connector`"]);

    let bad = "  - {id: a b, source_id: noaa_alerts, connector: nws_alerts, tenant: t, interval: 60s, config: {areas: [CA]}}\n";
    let Mistakes { mistakes, more } =
        StreamsFile::parse(&format!("version: 1\nstreams:\n{}", bad.repeat(130))).unwrap_err();
    assert_eq!((mistakes.len(), more), (100, 30));
}

/// S11: layers are counted by their servers, together with what else is asked there.
#[test]
fn requests_are_counted_by_the_address_they_go_to() {
    let layer = |id: &str, server: &str| {
        format!(
            "  - {{id: {id}, source_id: layer_{id}, connector: layers, tenant: t, interval: 60s, \
             config: {{url: \"{server}/rest/services/x/FeatureServer/0\", key: [N]}}}}\n"
        )
    };
    let zones =
        "  - {id: zones, source_id: evacuation_zones, connector: zones, tenant: t, interval: 60s, config: {}}\n";
    let cal_oes = "https://services.arcgis.com/BLN4oKB0N1YSgvY8/arcgis";
    let file = [
        "version: 1\nstreams:\n",
        &layer("a", "https://gis.test"),
        &layer("b", "https://gis.test"),
        zones,
        &layer("c", cal_oes),
    ];
    let loads = StreamsFile::parse(&file.concat()).unwrap().loads();
    let told: Vec<_> = loads.iter().map(|load| (load.address.as_str(), load.streams)).collect();
    let cal_oes = format!("{cal_oes}/rest/services");
    assert_eq!(told, [("https://gis.test/rest/services", 2), (cal_oes.as_str(), 2)]);
}

#[test]
fn what_is_no_streams_file_at_all_says_where_and_what_it_should_be() {
    for (text, says) in [
        ("", "expected version, streams, sensors and mqtt at line 1 column 1"),
        ("- 1", "expected version, streams, sensors and mqtt at line 1 column 1"),
        (
            "version: 1\nstreams: [1]",
            "streams[0]: invalid type: integer `1`, expected a stream with id, source_id, connector, tenant, interval and config at line 2 column 11",
        ),
        ("version: 1\nstreams: {", "line 3 column 1"),
        ("version: 1\n\tstreams: []", "line 2 column"),
        ("version: 1\nversion: 1\nstreams: []", "version is given twice at line 2 column 1"),
        ("version: 1\nstreams: []\n---\nversion: 1", "more than one document"),
        ("version: 1\nstreams: !list []", "line 2 column"),
    ] {
        let error = StreamsFile::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?} said {error:?}, not {says:?}");
    }
    let json = r#"{"version": 1, "streams": []}"#;
    assert_eq!(StreamsFile::parse(json).unwrap().streams, []);
}
