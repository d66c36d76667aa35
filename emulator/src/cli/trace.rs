//! Arguments of `trace`.

use clap::Args;
use reqwest::Url;
use streammanager::record::EventId;

use super::EndpointArgs;

/// What is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Traced {
    Event(EventId),
    /// `sender,identifier`
    Alert(String),
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// An event's id, as `event_id` of a record or its headers `ce_subject` and `ce_id` say it; or an alert's `sender,id`.
    #[arg(value_name = "EVENT_ID|SENDER,ID", value_parser = traced)]
    pub what: Traced,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

impl Traced {
    /// The request's path and query.
    pub(crate) fn path(&self) -> String {
        let (name, value) = match self {
            Traced::Event(event) => ("event", event.to_string()),
            Traced::Alert(name) => ("alert", name.clone()),
        };
        let mut url = Url::parse("http://host/trace").expect("a constant URL is one");
        url.query_pairs_mut().append_pair(name, &value);
        // A signature takes a plus for itself, not for a blank.
        format!("/trace?{}", url.query().unwrap_or_default().replace('+', "%20"))
    }
}

fn traced(text: &str) -> Result<Traced, String> {
    if text.contains(',') {
        return Ok(Traced::Alert(text.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    // A `ce_id` ends with the revision.
    let event = text.split_once('-').map_or(text, |(event, _)| event);
    event.parse().map(Traced::Event).map_err(|_| "write an event's 32 hex digits, or an alert as sender,id".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o7_an_event_is_named_as_records_name_it_and_an_alert_as_references_do() {
        let id = "00112233445566778899aabbccddeeff";
        let event = Traced::Event(EventId::from_bytes(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes()));
        assert_eq!(traced(id), Ok(event.clone()));
        assert_eq!(traced(&format!("{id}-12")), Ok(event.clone()));
        assert_eq!(event.path(), format!("/trace?event={id}"));
        let alert = traced("oes@butte.example,BUTTE  1&2").unwrap();
        assert_eq!(alert, Traced::Alert("oes@butte.example,BUTTE 1&2".into()));
        assert_eq!(alert.path(), "/trace?alert=oes%40butte.example%2CBUTTE%201%262");
        assert!(traced("BUTTE-1").is_err());
    }
}
