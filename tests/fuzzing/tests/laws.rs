//! The laws of `tests/fuzz` over every generated input and every decoder, and over some mutations of each [A6].

use bytes::Bytes;
use streammanager_fuzz::laws::hold;
use streammanager_fuzz::target::{Target, names};
use streammanager_fuzz::{mutation, seeds};

/// Of each input.
const MUTATIONS: u64 = 40;

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
fn a6_a_body_that_is_read_gives_its_rows() {
    let of = |format: &str| {
        let target = Target::named(format).expect("the table names it");
        let read = seeds::generated().into_iter().map(|body| hold(&target, &body.into()).rows);
        read.flatten().filter(Result::is_ok).count()
    };
    let (firms, alerts, readings) = (of("firms"), of("alert"), of("sensor"));
    assert!(firms >= 100 && alerts > 10 && readings > 10, "{firms} detections, {alerts} alerts, {readings} readings");
}
