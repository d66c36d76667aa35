//! Small valid bodies of every format: what decoders are mutated and fuzzed with [A6].

use super::Format;
use super::alert::feed;
use crate::sources::{
    airnow, calfire, caltrans, chp, firis, firms, fpa_fod, noaa_forecast, noaa_observations, outages, synoptic, wfigs,
    zones,
};

/// Bodies of one format, each of which its decoder reads whole.
pub struct Specimen {
    /// What reads them.
    pub format: Format,
    /// The id that they are read under.
    pub source: &'static str,
    /// Each on its own.
    pub bodies: Vec<String>,
}

/// Every one: each format of the table of sources has some, but for one that reads nothing without its stream's config.
pub fn all() -> Vec<Specimen> {
    let families = [
        cap(),
        feeds_of_alerts(),
        alert_json(),
        firms_tables(),
        nws_documents(),
        firms_json(),
        incidents(),
        perimeters(),
        layers(),
        lane_closures(),
        fire_occurrences(),
        sensors(),
        stations(),
        airnow(),
        dispatch_logs(),
    ];
    families.into_iter().flatten().collect()
}

fn specimen(format: Format, source: &'static str, bodies: &[String]) -> Specimen {
    Specimen { format, source, bodies: bodies.to_vec() }
}

fn cap_of(n: usize) -> String {
    let (prefix, namespace) = [("", "xmlns"), ("cap:", "xmlns:cap")][n % 2];
    let version = ["1.2", "1.1"][n % 2];
    let tag = |name: &str, inner: &str| format!("<{prefix}{name}>{inner}</{prefix}{name}>");
    let pair = |name: &str, key: &str| tag(name, &(tag("valueName", key) + &tag("value", "x &amp; y")));
    let area = tag("areaDesc", "Zone")
        + &tag("polygon", "40.1,-122.2 40.1,-122.1 40.2,-122.1 40.2,-122.2 40.1,-122.2")
        + &tag("circle", "40.1,-122.1 5")
        + &pair("geocode", "SAME");
    let info = tag("language", "en-US")
        + &tag("event", "Fire &#x26; smoke")
        + &tag("expires", "2025-08-14T20:05:00-07:00")
        + &pair("parameter", "EvacZone")
        + &tag("area", &area);
    let inner = ["identifier", "sender"].map(|name| tag(name, &format!("T{n}"))).concat()
        + &tag("sent", "2025-08-14T14:05:00-07:00")
        + &tag("status", "Actual")
        + &tag("msgType", "Update")
        + &tag("scope", "Public")
        + &tag("references", "T,1,2025-08-14T13:05:00-07:00")
        + &tag("info", &info);
    let alert = format!(
        "<{prefix}alert {namespace}='urn:oasis:names:tc:emergency:cap:{version}'>{inner}<!-- c --></{prefix}alert>"
    );
    match n {
        2 => format!("<feed xmlns='http://www.w3.org/2005/Atom'><entry>{alert}</entry><entry>{alert}</entry></feed>"),
        _ => format!("<?xml version='1.0' encoding='UTF-8'?>\n{alert}"),
    }
}

pub(crate) fn cap() -> Vec<Specimen> {
    vec![specimen(Format::ALERT, "evacuation_alert_x", &[cap_of(0), cap_of(1), cap_of(2)])]
}

pub(crate) fn feeds_of_alerts() -> Vec<Specimen> {
    const FEED: Format = Format::new("alert", |body, context| {
        // What it names is judged elsewhere.
        let _ = feed::index(body);
        feed::rows(body, context)
    });
    let alone = |n| cap_of(n).replace("<?xml version='1.0' encoding='UTF-8'?>\n", "");
    let list = format!("<n:alerts xmlns:n='urn:n'>{}{}</n:alerts>", alone(0), alone(1));
    let entry = r#"<entry><id>urn:oid:2.49.0.1.840.0.1</id><link rel="alternate" href="/a?b&amp;c"/><updated>2025-08-14T14:05:00Z</updated>
        <c:sent>2025-08-14T14:05:00-07:00</c:sent><c:status>Actual</c:status><c:msgType>Alert</c:msgType><c:polygon>40,-122 41,-122 41,-121 40,-122</c:polygon>
        <c:geocode><valueName>UGC</valueName><value>CAZ203 CAZ204</value></c:geocode></entry>"#;
    let atom = format!(
        r#"<feed xmlns="http://www.w3.org/2005/Atom" xmlns:c="urn:oasis:names:tc:emergency:cap:1.2">{entry}{entry}</feed>"#
    );
    vec![specimen(FEED, "ipaws_alerts", &[list, atom])]
}

pub(crate) fn alert_json() -> Vec<Specimen> {
    let areas = [
        r#"{"polygon": [[40.1, -122.2], [40.1, -122.1], [40.2, -122.1]], "zones": ["E012"]}"#,
        r#"[{"circle": "40.1,-122.1 5"}, {"circle": {"latitude": 40, "longitude": -122, "radius_km": 3}}]"#,
        r#"{"polygon": {"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 41], [-122, 40]]]}}"#,
    ];
    let bodies = areas.map(|area| {
        format!(
            r#"{{"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00", "status": "Actual", "msgType": "Alert",
            "event": "Evacuation", "references": ["s,B,2025-08-14T13:05:00-07:00", "C"], "population": 5, "area": {area},
            "parameter": {{"k": ["v"]}}, "derived_from": "28830e2136098655941b7e0102782b71", "rate_of_spread": 1.5}}"#
        )
    });
    vec![specimen(Format::ALERT, "evacuation_alert_x", &bodies)]
}

pub(crate) fn firms_tables() -> Vec<Specimen> {
    let area = "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n\
        36.35636,-114.91283,323.3,0.65,0.73,2020-09-26,5,N,VIIRS,n,2.0NRT,293.5,3.1,N\n\
        36.36,-114.9,323.3,0.65,0.73,2020-09-26,0659,1,VIIRS,n,2.0URT,293.5,3.1,N\n";
    let daily = "latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,confidence,version,bright_t31,frp,daynight\r\n\
        46.483,-81.032,305.5,2.8,1.6,2015-09-17, 02:30,T,31,5.0,286,55.3,N\r\n\
        46.5,-81.1,305.5,2.8,1.6,2015-09-17, 02:30,A,31,5.0,286,55.3,N\r\n";
    let archive = ",latitude,longitude,brightness,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_t31,frp,daynight,type\n\
        0,39.7,-121.6,341.7,0.4,0.4,2018-11-08 00:00:00,1006.0,N,VIIRS,n,2,295.4,14.7,N,0\n";
    vec![specimen(firms::FORMAT, "firms_modis", &[area, daily, archive].map(str::to_owned))]
}

pub(crate) fn nws_documents() -> Vec<Specimen> {
    let mut of = Vec::new();
    let square =
        r#"{"type": "Polygon", "coordinates": [[[-122, 40], [-121, 40], [-121, 41], [-122, 41], [-122, 40]]]}"#;
    let alerts = format!(
        r#"{{"features": [{{"geometry": {square}, "properties": {{"id": "A", "sender": "s", "sent": "2025-08-14T14:05:00-07:00",
            "status": "Actual", "messageType": "Update", "references": [{{"sender": "s", "identifier": "B", "sent": "2025-08-14T13:05:00Z"}}],
            "geocode": {{"UGC": ["CAZ203"]}}, "affectedZones": ["a/fire/CAZ203"], "parameters": {{"k": ["v"]}}, "ends": null}}}}]}}"#
    );
    of.push(specimen(Format::ALERT, "noaa_alerts", &[alerts]));
    let observation = r#"{"features": [{"geometry": {"type": "Point", "coordinates": [-122.25, 37.83]}, "properties": {
        "station": "https://api.weather.gov/stations/KTST", "timestamp": "2026-03-04T21:18:00+00:00",
        "temperature": {"unitCode": "wmoUnit:degC", "value": 17.78, "qualityControl": "V"}, "presentWeather": [{"weather": "smoke"}],
        "cloudLayers": [{"base": {"unitCode": "wmoUnit:m", "value": 1430}, "amount": "BKN"}]}}]}"#;
    let reports = "2024/01/12 15:38\nKCKV 121538Z AUTO 16013G27KT 250V320 1 1/2SM VCTS -RA FU BKN024CB OVC049 M09/07 A2936 RMK AO2 SLP125 T00940072\n\
        SPECI KDEF 141512Z COR 09025MPS 9999 //// VV002 28/// Q1013 NOSIG\n";
    let table = "No errors\nraw_text,station_id,observation_time,latitude,longitude,sky_cover,sky_cover,elevation_m\n\
        KTST 051056Z 25007KT 10SM FEW002 14/11 A2999,KTST,2026-07-05T10:56:00Z,37.5,-122.25,FEW,,2\n";
    let listed = "<?xml version='1.0'?><response><data><METAR><raw_text>KTST 051056Z 25007KT 10SM A2999</raw_text>\
        <observation_time>2026-07-05T10:56:00Z</observation_time><latitude>37.5</latitude><longitude>-122.25</longitude>\
        <sky_condition sky_cover='FEW'/><elevation_m>2</elevation_m></METAR></data></response>";
    let bodies = [observation, reports, table, listed].map(str::to_owned);
    of.push(specimen(noaa_observations::FORMAT, "noaa_observations", &bodies));
    let made = r#""updateTime": "2024-03-26T08:28:04+00:00", "elevation": {"unitCode": "wmoUnit:m", "value": 0.9}"#;
    let bodies = [
        format!(
            r#"{{"geometry": {square}, "properties": {{{made}, "periods": [{{"startTime": "2024-03-26T15:00:00+00:00",
            "endTime": "2024-03-27T01:00:00+00:00", "temperature": 64, "temperatureUnit": "F", "windSpeed": "3 to 9 mph"}}]}}}}"#
        ),
        format!(
            r#"{{"geometry": {square}, "properties": {{{made}, "gridId": "MTR", "gridX": "90", "gridY": 105, "windSpeed":
            {{"uom": "wmoUnit:km_h-1", "values": [{{"validTime": "2024-03-26T02:00:00+00:00/P1DT2H", "value": 14.8}}]}}}}}}"#
        ),
        r#"{"geometry": {"type": "Point", "coordinates": [-87.5, 33.2]}, "properties": {"gridId": "BMX", "gridX": 32, "gridY": 69,
            "forecastGridData": "a", "relativeLocation": {"properties": {"city": "T", "distance": {"unitCode": "wmoUnit:m", "value": 4}}}}}"#
            .to_owned(),
        r#"{"features": [{"geometry": {"type": "Point", "coordinates": [-87.5, 33.2]}, "properties": {"stationIdentifier": "KOAK"}}]}"#
            .to_owned(),
    ];
    of.push(specimen(noaa_forecast::FORMAT, "noaa_forecast", &bodies));
    let dwml = "<dwml xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'><head><product concise-name='a'>\
        <creation-date>2026-08-01T03:47:26Z</creation-date></product></head><data><location><location-key>p</location-key>\
        <point latitude='38.0' longitude='-120.0'/></location><time-layout><layout-key>d</layout-key>\
        <start-valid-time>2026-08-01T06:00:00-07:00</start-valid-time><end-valid-time>2026-08-02T06:00:00-07:00</end-valid-time>\
        </time-layout><parameters applicable-location='p'><temperature type='maximum' units='Fahrenheit' time-layout='d'>\
        <name>T</name><value>86</value></temperature><direction type='wind' time-layout='d'><value xsi:nil='true'/></direction>\
        <weather time-layout='d'><weather-conditions weather-summary='Sunny'/></weather></parameters></data></dwml>";
    of.push(specimen(noaa_forecast::FORMAT, "noaa_forecast", &[dwml.to_owned()]));
    of
}

pub(crate) fn firms_json() -> Vec<Specimen> {
    let row = r#"{"latitude": 31.3283, "longitude": -93.92654, "acq_date": "2025-06-01", "acq_time": "0306", "track": 1.08,
        "version": "6.1NRT", "bright_t31": 291.62, "confidence": "56", "frp": 7.09, "satellite": "Terra", "instrument": "MODIS"}"#;
    let feature = format!(
        r#"{{"type": "Feature", "properties": {row}, "geometry": {{"type": "Point", "coordinates": [-93.92654, 31.3283]}}}}"#
    );
    let bodies =
        [format!("[{row}, {row}]"), format!(r#"{{"type": "FeatureCollection", "features": [{feature}, {feature}]}}"#)];
    vec![specimen(firms::FORMAT, "firms_modis", &bodies)]
}

pub(crate) fn incidents() -> Vec<Specimen> {
    let properties = r#"{"Name": "A ", "UniqueId": "0a-1", "Started": "2022-07-22T14:10:00Z", "StartedDateOnly": "2022-07-22",
        "Updated": "2022-08-11T15:12:54.967Z", "AcresBurned": 19244.0, "PercentContained": "98%", "IsActive": "Y",
        "ControlStatement": "<p>a &amp; b</p>", "County": "A, B", "Latitude": 38.453, "Longitude": 121.999}"#;
    let bodies = [
        format!(
            r#"{{"type": "FeatureCollection", "features": [{{"type": "Feature", "properties": {properties},
            "geometry": {{"type": "Point", "coordinates": [-119.9, 37.5]}}}}]}}"#
        ),
        format!(r#"{{"Incidents": [{properties}, {properties}], "AllYearIncidents": []}}"#),
        "e,incident_date_created,incident_longitude,incident_latitude,incident_id,incident_acres_burned,incident_dateonly_created\n\
            \"Bridge, \"\"Upper\"\"\",2018-01-09T13:46:00Z,-122.309,40.774,2c-1,\"1,037\",1/9/2018\n\
            Pala,2018-01-09T13:46:00Z,1,1,2c-2,,1/9/2018\n"
            .to_owned(),
    ];
    vec![specimen(calfire::FORMAT, "calfire_incidents", &bodies)]
}

pub(crate) fn perimeters() -> Vec<Specimen> {
    let ring = "[[-120.1, 38.1, 5], [-120.1, 39.2], [-119.3, 39.4], [-120.1, 38.1]]";
    let hole = "[[-120, 38.5], [-120, 38.6], [-119.9, 38.6], [-120, 38.5]]";
    let feature = |geometry: &str| {
        format!(
            r#"{{"type": "FeatureCollection", "features": [{{"type": "Feature", "id": 3, "geometry": {geometry}, "properties":
            {{"poly_IRWINID": "{{99-A}}", "poly_SourceGlobalID": "{{42-B}}", "poly_CreateDate": 1735776672000, "attr_IncidentName": "H ",
            "attr_FireDiscoveryDateTime": "2021-06-18T08:55:00Z", "poly_GISAcres": 8346.25, "attr_FinalAcres": null}}}}]}}"#
        )
    };
    let bodies = [
        feature(&format!(r#"{{"type": "Polygon", "coordinates": [{ring}, {hole}]}}"#)),
        feature(&format!(r#"{{"type": "MultiPolygon", "coordinates": [[{ring}], [{hole}]]}}"#)),
        feature(&format!(
            r#"{{"type": "GeometryCollection", "geometries": [{{"type": "Point", "coordinates": [-120, 38]}},
            {{"type": "Polygon", "coordinates": [{ring}]}}]}}"#
        )),
    ];
    vec![specimen(wfigs::FORMAT, "wfigs_perimeters", &bodies)]
}

pub(crate) fn layers() -> Vec<Specimen> {
    let mut of = Vec::new();
    let ring = "[[-120.1, 38.1], [-120.1, 39.2], [-119.3, 39.4], [-120.1, 38.1]]";
    let hole = "[[-120, 38.5], [-119.9, 38.6], [-120, 38.6], [-120, 38.5]]";
    let rows = |attributes: &str, geometry: &str| {
        format!(
            r#"{{"spatialReference": {{"wkid": 4326}}, "features": [{{"attributes": {{"OBJECTID": 1, {attributes}}}, "geometry": {geometry}}}]}}"#
        )
    };
    let zone = r#""COUNTY": "T", "ZONE_ID": "E1", "STATUS": "Evacuation Order", "EditDate": -5000, "PUBLIC_INFO": "<b>go</b>""#;
    let flight = r#""mission": "CA-TST", "type": "Heat", "poly_DateCurrent": -5000, "area_acres": 1.5"#;
    let outage = r#""UtilityCompany": "T", "IncidentId": "T1", "ImpactedCustomers": 41, "StartDate": -5000"#;
    of.push(specimen(zones::FORMAT, "evacuation_zones", &[rows(zone, &format!(r#"{{"rings": [{ring}, {hole}]}}"#))]));
    let paths = rows(flight, &format!(r#"{{"paths": [{ring}]}}"#));
    let points = rows(flight, r#"{"points": [[-120, 38]]}"#);
    of.push(specimen(firis::FORMAT, "firis_perimeters", &[paths, points]));
    of.push(specimen(outages::FORMAT, "power_outages", &[rows(outage, r#"{"x": -120.5, "y": 38.5}"#)]));
    of
}

pub(crate) fn lane_closures() -> Vec<Specimen> {
    let row = |index: &str| {
        format!(
            r#"{{"lcs": {{"index": "{index}", "recordTimestamp": {{"recordEpoch": "5000"}}, "location": {{"travelFlowDirection": "North",
            "begin": {{"beginDistrict": "3", "beginLatitude": "38.0", "beginLongitude": "-120.0", "beginRoute": "SR-999"}},
            "end": {{"endLatitude": "38.1", "endLongitude": "-120.0"}}}}, "closure": {{"closureTimestamp": {{"closureStartDate":
            "1969-12-31", "closureStartTime": "17:23:20", "closureStartEpoch": "5000", "isClosureEndIndefinite": "true"}},
            "code1097": {{"isCode1097": "true"}}, "code1098": {{"isCode1098": "false"}}, "code1022": {{"isCode1022": "false"}}}}}}}}"#
        )
    };
    let bodies = [format!(r#"{{"data": [{}, {}, {}]}}"#, row("a"), row("b"), row("c")), row("a")];
    vec![specimen(caltrans::FORMAT, "caltrans_closures", &bodies)]
}

pub(crate) fn fire_occurrences() -> Vec<Specimen> {
    let table = "FOD_ID,FIRE_NAME,FIRE_YEAR,DISCOVERY_DATE,DISCOVERY_DOY,DISCOVERY_TIME,CONT_DATE,FIRE_SIZE,LATITUDE,LONGITUDE,STATE\n\
        1,\"SLACK, \"\"UPPER\"\"\",1999,2451334.5,156,945,2451335.5,0.37,36.37495554,-115.12044957,CA\n\
        2,NA,2000,2451632.5,89,1300,,3530.16,34.14929164,-121.40359308,CA\n";
    vec![specimen(fpa_fod::FORMAT, "historical_fpa_fod", &[table.to_owned()])]
}

pub(crate) fn sensors() -> Vec<Specimen> {
    let bodies = [
        r#"{"sensor_index": 131075, "latitude": 40.7, "longitude": -122.9, "last_seen": 1755151200, "humidity": 42,
            "temperature": 66, "pm2.5_atm": "12.85", "pm2.5_atm_a": 12.85, "pm2.5_atm_b": 11.6}"#,
        r#"{"stid": "TKNC1", "lat": "40.72", "lon": "-123.93", "time": "2025-08-14T06:07Z", "air_temp_c": 27.2}"#,
        r#"{"fields": ["sensor_index", "latitude", "longitude"], "data": [[1, 33.5, -117.6], [2, null, null]]}"#,
        r#"[{"id": 1, "ts": 1755151200000}, {"id": "b", "datetime": "2021/08/20T03:15:12z", "name": "B"}]"#,
        r#"[{"bn": "urn:dev:a:", "bt": 1795800000, "n": "temperature", "u": "Cel", "v": 23.1}, {"n": "humidity", "t": -5, "v": 20}]"#,
        r#"{"STATION": [{"STID": "C", "OBSERVATIONS": {"air_temp_value_1": {"date_time": "2026-11-27T23:25:00Z", "value": 21.5}}}]}"#,
        r#"{"Time": "2026-11-27T07:17:52", "BME280": {"Temperature": "71.6 °F", "Humidity": 45.2}, "TempUnit": "F", "id": 89012601234567890123}"#,
        r#"{"end_device_ids": {"device_id": "e"}, "received_at": "2026-11-27T16:16:30.899Z", "uplink_message": {"decoded_payload": {"temperature_1": 23}}}"#,
        "{\"id\": 1, \"tempf\": 60}\n{\"id\": 2, \"windspeedmph\": 3, \"time\": \"2026-11-27T22:55:31+0100\"}\n",
    ];
    vec![specimen(Format::SENSOR, "iot_x", &bodies.map(str::to_owned))]
}

pub(crate) fn stations() -> Vec<Specimen> {
    let bodies = [
        r#"{"UNITS": {"air_temp": "Fahrenheit", "elevation": "ft"}, "STATION": [{"STID": "A", "ELEVATION": 1000, "UNITS": {"elevation": "m"},
            "LATITUDE": "38", "LONGITUDE": "-120", "QC": {"air_temp_set_1": [null, [105, 7]]}, "OBSERVATIONS": {"air_temp_set_1": [22, null],
            "date_time": ["2026-07-13T19:47:00-0700", "2026-07-13T20:47:00-0700"]}}], "SUMMARY": {"RESPONSE_CODE": 1}}"#,
        r#"{"STATION": [{"STID": "A", "OBSERVATIONS": {"air_temp_value_1": {"value": 10, "date_time": "2026-07-14T03:47:00Z",
            "qc": {"status": "failed", "qc_flags": [105]}}}}]}"#,
        r#"{"api_version": "V1", "data_time_stamp": 1755151200, "sensor_index": 7, "fields": ["time_stamp", "pm2.5_atm", "temperature"],
            "data": [[1755151200, 12.3, 86], [1755151320, null, null]]}"#,
    ];
    vec![specimen(synoptic::FORMAT, "synoptic_observations", &bodies.map(str::to_owned))]
}

pub(crate) fn airnow() -> Vec<Specimen> {
    let bodies = [
        "08/01/26|20:00|060999999|Test Site|-8|PM2.5|UG/M3|12.3|Test Air District\n08/01/26|20:00|060999998|Ca\u{f1}on|-8|OZONE|PPB|-999|T\n",
        "\"AQSID\",\"SiteName\",\"Status\",\"Latitude\",\"Longitude\",\"ValidDate\",\"ValidTime\",\"PM25_AQI\",\"PM25_Measured\",\"PM25\",\"PM25_Unit\"\r\n\
            \"840060999999\",\"T\",\"Active\",\"38.5\",\"-120.25\",\"08/01/2026\",\"20:00\",\"52\",\"1\",\"10.6\",\"UG/M3\"\r\n",
        r#"[{"Latitude": 38.0, "Longitude": -120.0, "UTC": "2026-08-01T20:00", "Parameter": "CO", "Unit": "PPM", "Value": 0.3, "AQI": -999,
            "Category": 0, "SiteName": "T", "FullAQSCode": "060999999", "IntlAQSCode": "840060999999"}]"#,
    ];
    vec![specimen(airnow::FORMAT, "airnow_observations", &bodies.map(str::to_owned))]
}

/// What dispatchers noted: people, plates, telephone numbers.
pub(crate) const SECRET: &str = "white ford 7ABC123 reporting party john doe 530 555 0100 at 12 test street";

pub(crate) fn dispatch_logs() -> Vec<Specimen> {
    let log = |id: &str| {
        format!(
            "<Log ID = \"{id}\"><LogTime>\"Jan  1 1970  1:30PM\"</LogTime><LogType>\"1125\"</LogType><Location>\"A &amp; B\"</Location>\
             <LATLON>\"38000000:120000000\"</LATLON><LogDetails><details><DetailTime>\"1\"</DetailTime><IncidentDetail>\"{SECRET}\"\
             </IncidentDetail></details></LogDetails></Log>"
        )
    };
    let file = format!(
        "<?xml version=\"1.0\" ?><State><Center ID = \"A\"><Dispatch ID = \"B\">{}{}</Dispatch></Center></State>",
        log("1"),
        log("2")
    );
    vec![specimen(chp::FORMAT, "chp_incidents", &[file])]
}
