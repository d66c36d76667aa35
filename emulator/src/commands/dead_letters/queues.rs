//! `dead-letters queues`: messages that queues gave up, looked at and moved back, over a running system's HTTP API.

use reqwest::Method;
use serde_json::Value;
use streammanager::settings::GivenUp;
use streammanager_host::exit::{Exit, Failure};

use crate::cli::{EndpointArgs, GivenUpCommand};
use crate::commands::api::call;
use crate::commands::operate::{cell, items, one_line, show, table, text};
use crate::commands::{print, say};

pub(super) async fn run(command: GivenUpCommand) -> Result<Exit, Failure> {
    match command {
        GivenUpCommand::List { endpoint } => {
            let answer = call(&endpoint, Method::GET, "/dead-letters/queues", None).await?;
            show(&endpoint, &answer, standing)
        }
        GivenUpCommand::Show { queue, max, endpoint } => {
            let answer = call(&endpoint, Method::GET, &format!("/dead-letters/queues/{queue}?max={max}"), None).await?;
            show(&endpoint, &answer, |answer| match items(&answer["messages"]) {
                [] => vec![format!("nothing lies in {queue}")],
                messages => messages.iter().map(message).collect(),
            })
        }
        GivenUpCommand::Redrive { queue, endpoint } => redrive(queue, &endpoint).await,
    }
}

fn standing(answer: &Value) -> Vec<String> {
    let mut rows = vec![["queue", "messages", "looked at now", "oldest"].map(str::to_owned).to_vec()];
    rows.extend(
        items(&answer["queues"])
            .iter()
            .map(|queue| ["queue", "messages", "in_flight", "oldest"].map(|field| cell(&queue[field])).to_vec()),
    );
    table(&rows)
}

fn message(message: &Value) -> String {
    let holds = &message["holds"];
    let holds = match holds["text"].as_str() {
        Some(text) => one_line(text),
        None => holds.to_string(),
    };
    format!("{} sent {}: {holds}", text(&message["id"]), text(&message["sent_at"]))
}

/// Page by page, until nothing more moves.
async fn redrive(queue: GivenUp, endpoint: &EndpointArgs) -> Result<Exit, Failure> {
    let mut moved = 0;
    let path = format!("/dead-letters/queues/{queue}/redrive");
    let (held, stopped) = loop {
        let page = call(endpoint, Method::POST, &path, None).await?;
        let now = page["moved"].as_u64().unwrap_or_default();
        moved += now;
        let last = page["more"] != true || now == 0 || page["stopped"].is_string();
        if endpoint.json {
            print([page.to_string()])?;
        } else if last {
            let because = |one: &Value| format!("{} stays: {}", text(&one["id"]), one_line(text(&one["because"])));
            print(items(&page["held"]).iter().map(because))?;
        }
        if last {
            break (items(&page["held"]).len(), page["stopped"].as_str().map(str::to_owned));
        }
    };
    let told = format!("{queue}: {moved} moved back, {held} have no way back and stay");
    if endpoint.json {
        say(told);
    } else {
        print([told])?;
    }
    match stopped {
        Some(why) => Err(Failure::new(format!("the rest waits: {}; run this again later", one_line(&why)))),
        None => Ok(Exit::Done),
    }
}
