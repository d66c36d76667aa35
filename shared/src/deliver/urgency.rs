//! Which of the CRITICAL records in hand goes first [P7]: where more people are told to be, then where the fire is told to be
//! faster, then the older one. One that has waited long goes before all.

use std::time::Duration;

use serde::Deserialize;

use crate::record::Envelope;

/// Nobody is overtaken for longer [A4].
const PATIENCE: Duration = Duration::from_secs(60);

/// What an alert says of its urgency.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Deserialize)]
pub(crate) struct Urgency {
    /// People in the area.
    population: Option<u64>,
    /// As told by the sender.
    rate_of_spread: Option<f64>,
}

impl Urgency {
    /// Greater goes first; equals by age. `waited`: how long it has been in hand.
    pub(super) fn rank(self, waited: Duration) -> (bool, Urgency) {
        if waited >= PATIENCE { (true, Urgency::default()) } else { (false, self) }
    }
}

/// The thread and the urgency of the one alert that a CRITICAL envelope holds.
pub(super) fn of(envelope: &Envelope) -> (Option<String>, Urgency) {
    #[derive(Deserialize)]
    struct Value {
        data: Urgency,
    }
    let Some(record) = envelope.unpack().ok().and_then(|records| records.into_iter().next()) else {
        return (None, Urgency::default());
    };
    let value = serde_json::from_slice::<Value>(&record.value);
    (Some(record.key), value.map(|value| value.data).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_people_then_speed_then_age() {
        let urgency = |population, rate_of_spread| Urgency { population, rate_of_spread };
        let now = |urgency: Urgency| urgency.rank(Duration::from_secs(1));
        let order = [
            urgency(Some(2_400), Some(1.0)),
            urgency(Some(300), Some(80.5)),
            urgency(Some(300), Some(2.0)),
            urgency(Some(300), None),
            urgency(None, Some(500.0)),
            urgency(None, None),
        ];
        assert!(order.windows(2).all(|pair| now(pair[0]) > now(pair[1])), "{order:?}");
        let (long, longer) = (Duration::from_secs(60), Duration::from_secs(90));
        assert!(order[5].rank(long) > now(order[0]), "nobody is overtaken for more than a minute");
        assert!(order[0].rank(long) == order[5].rank(longer), "then the older one goes first");
    }
}
