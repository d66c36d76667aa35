//! What a deployment costs in a year [F10]: what its loads use, counted, times the prices of one dated file.

mod bill;
mod prices;

pub(crate) use bill::{Bill, bill};
pub(crate) use prices::Prices;
