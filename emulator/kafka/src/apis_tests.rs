//! The shapes agree with what clients send in every version, and refuse what claims more than it holds.

use bytes::BytesMut;
use kafka_protocol::messages::RequestKind;

use super::super::sample_requests::sample;
use super::*;

/// Of every request in every version that is offered.
fn bodies() -> impl Iterator<Item = (&'static Api, i16, Bytes)> {
    let versions = APIS.iter().flat_map(|api| (api.min..=api.max).map(move |version| (api, version)));
    versions.map(|(api, version)| {
        let mut body = BytesMut::new();
        sample(api.key, version).encode(&mut body, version).unwrap();
        (api, version, body.freeze())
    })
}

#[test]
fn shapes_cover_every_request_to_its_last_byte() {
    let mut seen = 0;
    for (api, version, body) in bodies() {
        assert_eq!(api.check(version, &body), Some(0), "{:?} {version}", api.key);
        let decoded = RequestKind::decode(api.key, &mut body.clone(), version).unwrap();
        assert_eq!(decoded, sample(api.key, version), "{:?} {version}", api.key);
        seen += 1;
    }
    assert!(seen > 120, "{seen} versions");
}

#[test]
fn a_body_that_ends_early_is_refused() {
    for (api, version, body) in bodies() {
        for size in 0..body.len() {
            assert_eq!(api.check(version, &body[..size]), None, "{:?} {version}, {size} bytes", api.key);
        }
    }
}

/// What follows a length that was changed is read at other places, so every byte is tried: the shape must refuse whatever
/// would make the decoder reserve more than a request may hold.
#[test]
fn whatever_passes_the_shape_can_be_decoded_in_bounded_memory() {
    for (api, version, body) in bodies() {
        for at in 0..body.len() {
            for value in [0x7f, 0x80, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = value;
                if api.check(version, &changed).is_some() {
                    let _ = RequestKind::decode(api.key, &mut Bytes::from(changed), version);
                }
            }
        }
    }
}

#[test]
fn arrays_that_claim_too_much_are_refused() {
    let metadata = find(ApiKey::Metadata as i16).unwrap();
    let mut body = BytesMut::from(&i32::MAX.to_be_bytes()[..]);
    assert_eq!(metadata.check(0, &body), None, "more elements than bytes");
    body.clear();
    body.extend_from_slice(&(MAX_ELEMENTS as i32).to_be_bytes());
    body.extend_from_slice(&vec![0; 2 * MAX_ELEMENTS]);
    assert_eq!(metadata.check(0, &body), Some(0));
    body[..4].copy_from_slice(&(MAX_ELEMENTS as i32 + 1).to_be_bytes());
    body.extend_from_slice(&[0; 2]);
    assert_eq!(metadata.check(0, &body), None, "more elements than a request may have");
    let mut tags = vec![0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    tags.extend_from_slice(&[0; 64]);
    assert!(Header::parse(&Bytes::from(tags)).is_none(), "tagged fields that claim too much");
}
