#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::record::SourceId;
use crate::sources::noaa_observations;

const BASE: &str = "https://weather.example";

fn feed(asks: usize) -> Feed {
    let ask = |n| Ask { name: format!("S{n}"), path: format!("/stations/S{n}/latest") };
    let asks = (0..asks).map(ask).collect();
    Feed { base_url: BASE.into(), asks, accept: "application/geo+json", format: noaa_observations::FORMAT }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Response { status, headers, body: body.into(), elapsed: Duration::ZERO }
}

fn now() -> Timestamp {
    "2026-08-01T00:10:00Z".parse().unwrap()
}

fn page(items: usize, next: Option<&str>) -> String {
    let item = r#"{"properties": {"stationId": "KTST", "timestamp": "2026-08-01T00:00:00Z"}}"#;
    let pagination = next.map_or(String::new(), |next| format!(r#", "pagination": {{"next": "{next}"}}"#));
    format!(r#"{{"features": [{}]{pagination}}}"#, vec![item; items].join(", "))
}

fn rows(feed: &Feed, body: &Bytes) -> Result<usize, Reject> {
    let source = SourceId::new("noaa_observations").unwrap();
    let context = Context { source: &source, received_at: now(), topic: None, message: None };
    feed.rows(body, context).map(Iterator::count)
}

fn headers(request: &Request) -> BTreeMap<&str, &str> {
    request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// What one answer to the first request of a single address comes to.
fn first(response: Response) -> Result<Fetched, SourceError> {
    feed(1).absorb(&Cursor::default(), response, now())
}

fn problem_of(response: Response) -> String {
    match first(response) {
        Err(SourceError::Failed(said) | SourceError::Refused(said) | SourceError::Busy { said, .. }) => said,
        Ok(fetched) => fetched.problem.expect("it was taken without a word"),
    }
}

#[test]
fn s11_the_validators_of_an_address_come_back_for_it_alone() {
    let feed = feed(2);
    let mut cursor = Cursor::default();
    for tag in ["\"a\"", "\"b\""] {
        assert_eq!(headers(&feed.next(&cursor)), BTreeMap::from([("accept", "application/geo+json")]));
        cursor = feed.absorb(&cursor, answer(200, &[("etag", tag)], page(1, None)), now()).unwrap().cursor;
    }
    for (tag, more) in [("\"a\"", true), ("\"b\"", false)] {
        let request = feed.next(&cursor);
        assert_eq!(headers(&request)["if-none-match"], tag);
        let fetched = feed.absorb(&cursor, answer(304, &[], ""), now()).unwrap();
        assert_eq!((fetched.body, fetched.more, fetched.problem), (None, more, None));
        cursor = fetched.cursor;
    }
    // Another list: nothing of the first one is sent for it, and no place lies behind its end.
    let mut other = self::feed(1);
    other.asks[0].path = "/elsewhere".into();
    assert_eq!(headers(&other.next(&cursor)).len(), 1);
}

#[test]
fn s11_pages_are_followed_on_the_same_host_alone_and_within_a_bound() {
    let next = |address: &str| first(answer(200, &[], page(1, Some(address))));
    for (address, asked) in [
        ("https://weather.example/alerts?cursor=2", "https://weather.example/alerts?cursor=2"),
        ("/alerts?cursor=2", "https://weather.example/alerts?cursor=2"),
    ] {
        let fetched = next(address).unwrap();
        assert!(fetched.more);
        let request = feed(1).next(&fetched.cursor);
        assert_eq!((request.url.reveal(), headers(&request).len()), (asked, 1), "no condition on a later page");
    }
    for elsewhere in [
        "https://evil.example/alerts",
        "https://weather.example.evil.example/alerts",
        "https://weather.example@evil.example/alerts",
        "https://weather.example:8443/alerts",
        "http://weather.example/alerts",
        "//evil.example/alerts",
        "https://weather.example//evil.example/alerts",
        "/a\\u000d\\u000ahost: evil",
        "/\\\\evil.example",
        "alerts",
    ] {
        let fetched = next(elsewhere).unwrap();
        assert!(!fetched.more && fetched.body.is_some(), "{elsewhere}");
        assert!(fetched.problem.unwrap().contains("another host"), "{elsewhere}");
    }
    let linked = |header| first(answer(200, &[("link", header)], page(1, None))).unwrap().more;
    assert!(linked("</a>; rel=\"prev\", <https://weather.example/b>; title=x; rel=\"next\""));
    assert!(!linked("</a>; rel=\"last\""));
    assert!(!first(answer(200, &[], page(0, Some("/more")))).unwrap().more, "an empty page is the last one");
    assert!(next("/stations/S0/latest").unwrap().problem.unwrap().contains("the page itself"));

    let (feed, mut cursor, mut pages) = (feed(1), Cursor::default(), 0);
    loop {
        pages += 1;
        let fetched = feed.absorb(&cursor, answer(200, &[], page(1, Some(&format!("/p{pages}")))), now()).unwrap();
        cursor = fetched.cursor;
        if !fetched.more {
            assert!(fetched.problem.unwrap().contains("more than"));
            break;
        }
    }
    assert_eq!(pages, FEED_PAGES);
}

#[test]
fn s10_what_is_no_data_is_told_in_its_own_words() {
    let html = "<!DOCTYPE html>\n<html><title>Access Denied</title></html>";
    for (status, headers, body, says) in [
        (403, &[][..], html, "access refused: it is a web page"),
        (500, &[], "{\"title\": \"Unexpected Problem\", \"status\": 500, \"detail\": \"An error.\"}", "An error."),
        (502, &[], html, "it is a web page"),
        (200, &[], html, "it is a web page"),
        (200, &[], " \n", "an empty body"),
        (301, &[("location", "https://evil.example/")], "", "moved to \"https://evil.example/\""),
        (304, &[], "", "without a condition"),
        (404, &[], "{\"title\": \"Not Found\", \"status\": 404}", "Not Found"),
        (429, &[], "slow down", "slow down"),
    ] {
        let said = problem_of(answer(status, headers, body));
        assert!(said.contains(says) && said.contains(&status.to_string()), "{said}");
    }
    for body in ["{\"error\": {\"message\": \"no\"}}", "{\"features\": [{\"prop", "[", "null", "\x1f\u{8b}"] {
        let fetched = first(answer(200, &[], body)).unwrap();
        assert!(rows(&feed(1), &fetched.body.unwrap()).is_err(), "{body:?} was taken");
    }
}

#[test]
fn s11_a_host_that_is_busy_is_left_alone_as_long_as_it_says() {
    for (status, after, seconds) in [
        (429, Some("7"), 7),
        (503, Some("7"), 7),
        (429, None, 60),
        (503, Some("soon"), 60),
        (429, Some("999999"), 3600),
    ] {
        let header: Vec<_> = after.iter().map(|after| ("retry-after", *after)).collect();
        let Err(SourceError::Busy { until, .. }) = first(answer(status, &header, "")) else { panic!("not busy") };
        assert_eq!(until, now() + Duration::from_secs(seconds), "{status} {after:?}");
    }
}

#[test]
fn s10_one_address_that_is_gone_costs_itself_alone_and_one_that_fails_is_not_the_only_one_asked() {
    let feed = feed(3);
    let gone = feed.absorb(&Cursor::default(), answer(404, &[], "no such station"), now()).unwrap();
    assert!(gone.more && gone.body.is_none());
    assert!(gone.problem.unwrap().starts_with("S0: status 404"));
    let asked = |cursor: &Cursor| feed.next(cursor).url.reveal().strip_prefix(BASE).unwrap().to_owned();
    assert_eq!(asked(&gone.cursor), "/stations/S1/latest");
    let behind = feed.failed(&gone.cursor, now());
    assert_eq!(asked(&behind), "/stations/S2/latest");
    assert_eq!(asked(&feed.failed(&behind, now())), "/stations/S0/latest");
}

#[test]
fn s10_an_error_of_one_address_costs_itself_and_two_in_a_row_are_the_hosts() {
    let feed = feed(4);
    let absorb = |cursor: &Cursor, status| feed.absorb(cursor, answer(status, &[], page(1, None)), now());
    let first = absorb(&Cursor::default(), 500).unwrap();
    assert!(first.more && first.body.is_none());
    assert!(first.problem.unwrap().starts_with("S0: status 500"));
    assert!(matches!(absorb(&first.cursor, 502), Err(SourceError::Failed(said)) if said.starts_with("S1")));
    let good = absorb(&first.cursor, 200).unwrap();
    let again = absorb(&good.cursor, 500).unwrap();
    assert!(again.more && again.problem.is_some(), "one in between was good");
    assert!(matches!(absorb(&again.cursor, 503), Err(SourceError::Busy { .. })));
    let (mut single, only) = (self::feed(1), answer(500, &[], ""));
    single.asks[0].name = "only".into();
    assert!(single.absorb(&Cursor::default(), only, now()).is_err(), "of one address it is the source's");
}

#[test]
fn a_page_of_an_address_that_is_not_asked_any_more_is_not_asked_for() {
    let paged = feed(1).absorb(&Cursor::default(), answer(200, &[], page(1, Some("/page2"))), now()).unwrap();
    assert!(feed(1).next(&paged.cursor).url.reveal().ends_with("/page2"));
    let mut other = feed(1);
    other.asks[0].path = "/elsewhere".into();
    assert!(other.next(&paged.cursor).url.reveal().ends_with("/elsewhere"));
}

/// A host with addresses of some pages each, whose contents change, and which has faults.
struct Host {
    rng: StdRng,
    /// By address: the number of its pages, and how often it has changed.
    addresses: Vec<(usize, u32)>,
    /// The validator that each address gave with its last single page that was taken.
    given: BTreeMap<String, String>,
    troubled: bool,
}

/// What a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Good,
    NotModified,
    Fault,
}

impl Host {
    fn answers(&mut self, request: &Request) -> (Response, Met) {
        let path = request.url.reveal().strip_prefix(BASE).expect("nobody else is asked").to_owned();
        let (address, number) = path.split_once("?page=").unwrap_or((&path, "0"));
        let at: usize = address.trim_start_matches("/stations/S").trim_end_matches("/latest").parse().unwrap();
        let number: usize = number.parse().unwrap();
        let condition = headers(request).get("if-none-match").map(|tag| (*tag).to_owned());
        if condition.is_some() {
            assert_eq!(number, 0, "a later page was asked for with a condition");
            assert_eq!(condition, self.given.get(address).cloned(), "{address} was asked with another's validator");
        }
        if self.troubled && self.rng.random_bool(0.3) {
            return (self.fault(), Met::Fault);
        }
        if self.rng.random_bool(0.2) {
            self.addresses[at].1 += 1;
        }
        let (pages, version) = self.addresses[at];
        let tag = format!("\"{at}-{version}\"");
        if condition.as_ref() == Some(&tag) {
            return (answer(304, &[], ""), Met::NotModified);
        }
        let next = (number + 1 < pages).then(|| format!("{BASE}{address}?page={}", number + 1));
        if pages == 1 {
            self.given.insert(address.to_owned(), tag.clone());
        }
        (answer(200, &[("etag", &tag)], page(1, next.as_deref())), Met::Good)
    }

    fn fault(&mut self) -> Response {
        let html = "<html><body>down for maintenance</body></html>";
        match self.rng.random_range(0..10) {
            0 => answer(429, &[("retry-after", "20")], "slow down"),
            1 => answer(429, &[], "slow down"),
            2 => answer(403, &[], html),
            3 => answer(500, &[], "{}"),
            4 => answer(200, &[("etag", "\"html\"")], html),
            5 => answer(200, &[("etag", "\"cut\"")], page(1, None)[..30].to_owned()),
            6 => answer(200, &[("etag", "\"error\"")], r#"{"error": {"code": 500}}"#),
            7 => answer(302, &[("location", "https://evil.example/")], ""),
            8 => answer(404, &[], "no such station"),
            _ => answer(200, &[("etag", "\"nothing\"")], ""),
        }
    }
}

/// Whatever a host does, for many seeds: nobody else is asked, no condition is another's, nothing broken gives rows or is remembered, a
/// poll ends; and once the trouble is over the next polls read every page of every address.
#[test]
fn s11_a_feed_keeps_its_rules_on_a_host_with_every_fault() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let addresses: Vec<(usize, u32)> = (0..rng.random_range(1..6)).map(|_| (rng.random_range(1..4), 0)).collect();
        let (asks, pages) = (addresses.len(), addresses.iter().map(|(pages, _)| pages).sum::<usize>());
        let feed = feed(asks);
        let mut host = Host { rng, addresses, given: BTreeMap::new(), troubled: true };
        let mut cursor = Cursor::default();
        for poll in 0..40 {
            host.troubled = poll < 37;
            let (mut requests, mut good) = (0, 0);
            loop {
                requests += 1;
                assert!(requests <= pages, "seed {seed}: a poll without end");
                let request = feed.next(&cursor);
                let (response, met) = host.answers(&request);
                let at_fault = match feed.absorb(&cursor, response, now()) {
                    Ok(fetched) => match fetched.body.as_ref().map(|body| rows(&feed, body)) {
                        Some(Err(_)) => true,
                        read => {
                            assert_eq!(read.is_some(), met == Met::Good, "seed {seed}: {met:?}");
                            good += 1;
                            cursor = fetched.cursor;
                            if fetched.more {
                                continue;
                            }
                            break;
                        }
                    },
                    Err(SourceError::Busy { until, .. }) => {
                        assert!(until > now());
                        true
                    }
                    Err(_) => true,
                };
                assert!(at_fault && met == Met::Fault, "seed {seed}: {met:?}");
                cursor = feed.failed(&cursor, now());
                break;
            }
            if poll == 39 {
                assert_eq!(good, pages, "seed {seed}: a whole poll reads everything");
            }
            assert!(cursor.0.len() < 200 * (asks + 1), "{}", cursor.0);
        }
    }
}

#[test]
fn a_cursor_of_another_version_begins_anew() {
    for text in ["", "{", "{\"at\": 900}", "{\"etag\": \"x\", \"last_modified\": null}"] {
        let request = feed(2).next(&Cursor(text.into()));
        assert!(request.url.reveal().ends_with("/stations/S0/latest"), "{text}");
    }
}
