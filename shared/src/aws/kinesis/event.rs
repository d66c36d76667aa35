//! A record as its stream carries it: an event of CloudEvents 1.0 in structured mode. Kinesis has no headers, so what Kafka's
//! say are the event's attributes, and the published JSON is its `data`, unchanged.

use crate::record::Outgoing;

/// Room for the attributes, which take about 600 bytes.
const ATTRIBUTES: usize = 1024;

pub(super) fn of(record: &Outgoing) -> Vec<u8> {
    let mut event = Vec::with_capacity(ATTRIBUTES + record.value.len());
    event.push(b'{');
    record.each_header(|name, value| {
        let name = match name {
            "content-type" => "datacontenttype",
            name => name.strip_prefix("ce_").unwrap_or(name),
        };
        // The specification wants lower case.
        attribute(&mut event, &name.to_ascii_lowercase(), value);
    });
    attribute(&mut event, "partitionkey", &record.key);
    event.extend_from_slice(b"\"data\":");
    event.extend_from_slice(&record.value);
    event.push(b'}');
    event
}

fn attribute(event: &mut Vec<u8>, name: &str, value: &str) {
    for (text, behind) in [(name, b':'), (value, b',')] {
        serde_json::to_writer(&mut *event, text).expect("a Vec takes every text");
        event.push(behind);
    }
}
