//! The laws of `tests/fuzz` over every generated input and every decoder, over each decoder's own bodies, and over mutations of all of
//! them [A6]: the same in every run, about half a minute. Hours of it by coverage are `tests/fuzz`.

use std::collections::BTreeMap;

use bytes::Bytes;
use streammanager::decode::specimens;
use streammanager_fuzz::laws::hold;
use streammanager_fuzz::target::{Target, names};
use streammanager_fuzz::{mutation, seeds};

/// Of each input for all decoders.
const MUTATIONS: u64 = 40;
/// Of each body of a decoder's own, which gets further than a refusal.
const OF_ITS_OWN: u64 = 500;

#[test]
fn a6_the_laws_hold_for_every_decoder_over_generated_inputs_and_mutations() {
    let bodies = seeds::generated();
    for name in names() {
        let target = Target::named(name).expect("the table names it");
        for body in &bodies {
            hold(&target, &Bytes::from(body.clone()));
            for seed in 0..MUTATIONS {
                mutation::mutated(body, seed).into_iter().for_each(|made| drop(hold(&target, &made.into())));
            }
        }
    }
}

#[test]
fn a6_the_laws_hold_for_every_decoder_over_bodies_of_its_own_and_mutations() {
    let mut read: BTreeMap<&str, (usize, usize)> = names().into_iter().map(|name| (name, (0, 0))).collect();
    for specimen in specimens::all() {
        let target = Target::reading(specimen.format, specimen.source).expect("it has an id of a source");
        let (intact, mutated) = read.get_mut(specimen.format.name).expect("the table names it");
        for body in specimen.bodies {
            let records = |body: Bytes| hold(&target, &body).rows.iter().filter(|row| row.is_ok()).count();
            *intact += records(body.clone().into());
            for seed in 0..OF_ITS_OWN {
                *mutated += mutation::mutated(body.as_bytes(), seed).map_or(0, |made| records(made.into()));
            }
        }
    }
    // A layer's rows are read by its stream's config, never out of a file.
    assert_eq!(read.remove("arcgis-layer"), Some((0, 0)));
    assert!(read.values().all(|(intact, mutated)| *intact > 0 && *mutated > 100), "{read:?}");
}

#[test]
fn a6_a_body_that_is_read_gives_its_rows() {
    let of = |format: &str| {
        let target = Target::named(format).expect("the table names it");
        let read = seeds::generated().into_iter().map(|body| hold(&target, &body.into()).rows);
        read.flatten().filter(Result::is_ok).count()
    };
    let (firms, alerts, readings) = (of("firms"), of("alert"), of("sensor"));
    assert!(firms >= 100 && alerts > 10 && readings > 10, "{firms} detections, {alerts} alerts, {readings} readings");
}
