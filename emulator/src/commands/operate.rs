//! The operator's commands: clients of a running system's HTTP API.

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use streammanager::schedule::streams::StreamsFile;

use crate::cli::{AlertsCommand, ConnectorsCommand, DeadLettersCommand, EndpointArgs, StreamsCommand};
use crate::exit::{Exit, Failure};
use crate::files;

pub async fn streams(command: StreamsCommand) -> Result<Exit, Failure> {
    match command {
        StreamsCommand::Apply { file, prune, endpoint } => {
            let text = String::from_utf8_lossy(&files::read(&file)?).into_owned();
            let parsed = StreamsFile::parse(&text).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
            let path = if prune { "/streams?prune=true" } else { "/streams" };
            let diff =
                call(&endpoint, Method::PUT, path, Some(&serde_json::to_value(&parsed).map_err(Failure::new)?)).await?;
            show(&endpoint, &diff, |diff| {
                for (change, mark) in [("added", '+'), ("changed", '~'), ("removed", '-'), ("unchanged", '=')] {
                    texts(&diff[change]).for_each(|id| println!("{mark} {id}"));
                }
            })
        }
        StreamsCommand::List { endpoint } => {
            let listed = call(&endpoint, Method::GET, "/streams", None).await?;
            show(&endpoint, &listed, |listed| {
                println!(
                    "{:<20} {:<22} {:<10} {:<7} {:>10} {:>8}  last error",
                    "stream", "source", "mode", "active", "records", "failed"
                );
                for stream in listed["streams"].as_array().into_iter().flatten() {
                    println!(
                        "{:<20} {:<22} {:<10} {:<7} {:>10} {:>8}  {}",
                        text(&stream["stream_id"]),
                        text(&stream["source_id"]),
                        text(&stream["mode"]),
                        stream["is_active"],
                        stream["records_processed"],
                        stream["records_failed"],
                        text(&stream["last_error"]),
                    );
                }
            })
        }
        StreamsCommand::Status { id, endpoint } => {
            let status = call(&endpoint, Method::GET, &format!("/streams/{id}"), None).await?;
            show(&endpoint, &status, |status| {
                for (name, value) in status.as_object().into_iter().flatten() {
                    println!("{name:<18} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
            })
        }
        StreamsCommand::Start { id, endpoint } => start_or_stop(&endpoint, &id, "start").await,
        StreamsCommand::Stop { id, endpoint } => start_or_stop(&endpoint, &id, "stop").await,
    }
}

async fn start_or_stop(endpoint: &EndpointArgs, id: &str, action: &str) -> Result<Exit, Failure> {
    let answer = call(endpoint, Method::POST, &format!("/streams/{id}/{action}"), None).await?;
    show(endpoint, &answer, |_| println!("{id}: {action}"))
}

pub async fn connectors(command: ConnectorsCommand) -> Result<Exit, Failure> {
    match command {
        ConnectorsCommand::Register { id, tenant, sources, critical, endpoint } => {
            let registration = json!({ "id": id, "tenant": tenant, "sources": sources, "critical": critical });
            let answer = call(&endpoint, Method::POST, "/connectors", Some(&registration)).await?;
            show(&endpoint, &answer, |answer| println!("{}", text(&answer["key"])))
        }
        ConnectorsCommand::Rotate { id, endpoint } => {
            let answer = call(&endpoint, Method::POST, &format!("/connectors/{id}/rotate"), None).await?;
            show(&endpoint, &answer, |answer| println!("{}", text(&answer["key"])))
        }
        ConnectorsCommand::Revoke { id, endpoint } => {
            let answer = call(&endpoint, Method::DELETE, &format!("/connectors/{id}"), None).await?;
            show(&endpoint, &answer, |_| println!("{id}: revoked"))
        }
        ConnectorsCommand::List { endpoint } => {
            let listed = call(&endpoint, Method::GET, "/connectors", None).await?;
            show(&endpoint, &listed, |listed| {
                for connector in listed["connectors"].as_array().into_iter().flatten() {
                    let grant = if connector["critical"] == true { "critical grant" } else { "no critical grant" };
                    let state = if connector["revoked"] == true { "revoked" } else { "active" };
                    let sources: Vec<&str> = texts(&connector["sources"]).collect();
                    println!("{:<20} {state:<8} {grant:<18} {}", text(&connector["id"]), sources.join(" "));
                }
            })
        }
    }
}

pub async fn alerts(command: AlertsCommand) -> Result<Exit, Failure> {
    let AlertsCommand::Send { key_file, source, endpoint, json, file } = command;
    let key = files::key(&key_file)?;
    let body = files::read(&file)?;
    let mut url = format!("{}/alerts", endpoint.trim_end_matches('/'));
    if let Some(source) = source {
        url.push_str(&format!("?source={source}"));
    }
    let (status, answer) = send(client().post(&url).bearer_auth(key).body(body), &endpoint).await?;
    if json {
        println!("{answer}");
    }
    for accepted in answer["accepted"].as_array().into_iter().flatten().filter(|_| !json) {
        println!(
            "{} acknowledged by the {} for {}",
            text(&accepted["event_id"]),
            text(&accepted["acknowledged_by"]),
            text(&accepted["topic"])
        );
    }
    for rejected in answer["rejected"].as_array().into_iter().flatten() {
        eprintln!("{}: rejected: {}: {}", file.display(), text(&rejected["error"]), text(&rejected["detail"]));
    }
    match status {
        _ if status.is_success() => Ok(Exit::Done),
        StatusCode::UNPROCESSABLE_ENTITY if answer.get("rejected").is_some() => Ok(Exit::Partly),
        _ => Err(refused(status, &answer)),
    }
}

pub async fn dead_letters(command: DeadLettersCommand) -> Result<Exit, Failure> {
    let DeadLettersCommand::List { stream, endpoint } = command;
    let path = stream.map_or("/dead-letters".to_owned(), |stream| format!("/dead-letters?stream={stream}"));
    let listed = call(&endpoint, Method::GET, &path, None).await?;
    show(&endpoint, &listed, |listed| {
        for letter in listed["dead_letters"].as_array().into_iter().flatten() {
            println!(
                "{} {:<16} {:<20} seen {}×, last {}: {}",
                text(&letter["id"]),
                text(&letter["reason"]),
                text(&letter["stream"]),
                letter["attempts"],
                text(&letter["last_seen"]),
                text(&letter["detail"]),
            );
        }
    })
}

/// An HTTP client of this host.
pub(crate) fn client() -> Client {
    // Either provider serves; one may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new()
}

async fn call(endpoint: &EndpointArgs, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let key = files::key(&endpoint.control_key_file)?;
    let url = format!("{}{path}", endpoint.endpoint.trim_end_matches('/'));
    let mut request = client().request(method, url).bearer_auth(key);
    if let Some(body) = body {
        request = request.json(body);
    }
    let (status, answer) = send(request, &endpoint.endpoint).await?;
    match status.is_success() {
        true => Ok(answer),
        false => Err(refused(status, &answer)),
    }
}

async fn send(request: RequestBuilder, endpoint: &str) -> Result<(StatusCode, Value), Failure> {
    let response = request.send().await.map_err(|_| {
        Failure::new(format!(
            "nothing answers at {endpoint}: start the system with `streammanager up`, or name it with --endpoint"
        ))
    })?;
    let status = response.status();
    let answer = response.json().await.map_err(|e| Failure::new(format!("{endpoint}: status {status}: {e}")))?;
    Ok((status, answer))
}

fn refused(status: StatusCode, answer: &Value) -> Failure {
    Failure::new(format!(
        "refused with status {}: {}: {}",
        status.as_u16(),
        text(&answer["error"]),
        text(&answer["detail"])
    ))
}

fn show(endpoint: &EndpointArgs, answer: &Value, table: impl FnOnce(&Value)) -> Result<Exit, Failure> {
    match endpoint.json {
        true => println!("{answer}"),
        false => table(answer),
    }
    Ok(Exit::Done)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}
