//! The words in which lists of zones tell what people are to do [S14].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people in a zone are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing is ordered.
    Normal,
    /// Be aware.
    Advisory,
    /// Be ready to leave.
    Warning,
    /// Leave now.
    Order,
    /// Stay inside.
    ShelterInPlace,
    /// The order or warning is over, by the list's own word.
    Lifted,
    /// Not real.
    Training,
    /// It has left the list, and nobody has said why.
    LiftedUnconfirmed,
    /// A text that is not known here, or none: never to be taken for normal.
    Unknown,
}

impl Status {
    /// Of a text in any case; the level of Oregon's lists is 1 be ready, 2 be set, 3 go now.
    pub(super) fn of(text: Option<&str>) -> Status {
        let words = text.unwrap_or_default().replace(['-', '_'], " ").to_lowercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        if words.first() == Some(&"training") {
            return Status::Training;
        }
        match words.join(" ").as_str() {
            "normal" => Status::Normal,
            "advisory" | "evacuation advisory" | "level 1" => Status::Advisory,
            "warning" | "evacuation warning" | "level 2" => Status::Warning,
            "order" | "evacuation order" | "mandatory evacuation order" | "level 3" => Status::Order,
            "shelter in place" => Status::ShelterInPlace,
            "lifted"
            | "clear to repopulate"
            | "evacuation order lifted"
            | "evacuation warning lifted"
            | "evacuation advisory lifted"
            | "shelter in place lifted" => Status::Lifted,
            _ => Status::Unknown,
        }
    }

    /// How much worse it would be to miss it than another one.
    pub(super) fn severity(self) -> u8 {
        match self {
            Status::Normal | Status::Training | Status::LiftedUnconfirmed => 0,
            Status::Lifted => 1,
            Status::Advisory => 2,
            Status::Warning => 3,
            Status::Unknown => 4,
            Status::ShelterInPlace => 5,
            Status::Order => 6,
        }
    }

    /// People are told to do nothing: whatever leaves the list then has nothing left to be lifted.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Status::Normal | Status::Training | Status::Lifted | Status::LiftedUnconfirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_every_known_word_has_its_status_and_no_other_text_is_normal() {
        for (text, status) in [
            ("Normal", Status::Normal),
            ("NORMAL ", Status::Normal),
            ("Evacuation Advisory", Status::Advisory),
            ("Advisory", Status::Advisory),
            ("evacuation  WARNING", Status::Warning),
            ("Evacuation Order", Status::Order),
            ("Shelter-in-Place", Status::ShelterInPlace),
            ("Clear to Repopulate", Status::Lifted),
            ("Evacuation Order Lifted", Status::Lifted),
            ("Training - Evacuation Order", Status::Training),
            ("Level 3", Status::Order),
            ("", Status::Unknown),
            ("Evacuation", Status::Unknown),
            ("Not Normal", Status::Unknown),
            ("Normal?", Status::Unknown),
            ("abnormal", Status::Unknown),
        ] {
            assert_eq!(Status::of(Some(text)), status, "{text:?}");
        }
        assert_eq!(Status::of(None), Status::Unknown);
    }
}
