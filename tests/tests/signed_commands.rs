//! The operator's commands against a stack on AWS: every request is signed, and an API in front of the system works the
//! signature out for itself, as API Gateway does, from AWS's description of Signature Version 4.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};
use streammanager_tests::binary;
use streammanager_tests::system::{Start, System, client};
use tempfile::tempdir;
use tokio::net::TcpListener;

const REGION: &str = "us-west-2";
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "a-token-of-a-session";

/// Lets signed requests through to a system that wants its control key.
#[derive(Clone)]
struct Gateway {
    system: String,
    control_key: String,
    let_in: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    async fn before(system: &System, start: &Start) -> (Gateway, String) {
        let control_key = std::fs::read_to_string(start.data.join("control.key")).unwrap().trim().to_owned();
        let gateway = Gateway { system: system.url(""), control_key, let_in: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let api = Router::new().fallback(ask).with_state(gateway.clone());
        tokio::spawn(async move { axum::serve(listener, api).await });
        (gateway, format!("http://{at}"))
    }
}

async fn ask(State(gateway): State<Gateway>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(why) = signature(&method, &uri, &headers, &body) {
        return (StatusCode::FORBIDDEN, axum::Json(json!({ "message": why }))).into_response();
    }
    gateway.let_in.lock().push(format!("{method} {uri}"));
    let asked =
        client().request(method, format!("{}{uri}", gateway.system)).bearer_auth(&gateway.control_key).body(body);
    let answer = asked.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every byte but those that RFC 3986 leaves alone.
fn encoded(text: &str, also: &[u8]) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if also.contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A plus is a plus.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Why the request is not let in, in API Gateway's words.
fn signature(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(shown) = header("authorization").and_then(|shown| shown.strip_prefix("AWS4-HMAC-SHA256 ")) else {
        return Err("Missing Authentication Token");
    };
    let fields: BTreeMap<&str, &str> = shown.split(", ").filter_map(|field| field.split_once('=')).collect();
    let (at, signed) = (header("x-amz-date").ok_or("Missing Authentication Token")?, fields["SignedHeaders"]);
    let scope = format!("{}/{REGION}/execute-api/aws4_request", &at[..8]);
    if fields["Credential"] != format!("{ID}/{scope}") {
        return Err("Forbidden");
    }
    if header("x-amz-security-token").is_some_and(|token| token != TOKEN) {
        return Err("The security token included in the request is expired");
    }
    let must: &[&str] = if header("x-amz-security-token").is_some() {
        &["host", "x-amz-date", "x-amz-security-token"]
    } else {
        &["host", "x-amz-date"]
    };
    if must.iter().any(|name| !signed.split(';').any(|signed| signed == *name)) {
        return Err("'Host' or 'X-Amz-Date' must be a 'SignedHeader'");
    }
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    if at[..11] != now[..11] {
        return Err("Signature expired");
    }
    let mut query: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encoded(&decoded(name), b""), encoded(&decoded(value), b""))
        })
        .collect();
    query.sort();
    let of_headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", header(name).unwrap_or_default().trim())).collect();
    let canonical = format!(
        "{method}\n{}\n{}\n{of_headers}\n{signed}\n{}",
        encoded(uri.path(), b"/"),
        query.join("&"),
        hex(&Sha256::digest(body))
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let parts = [&at[..8], REGION, "execute-api", "aws4_request"];
    let key = parts.iter().fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    if fields["Signature"] == hex(&hmac(&key, to_sign.as_bytes())) { Ok(()) } else { Err("Forbidden") }
}

/// The example of "Deriving the signing key" in AWS's documentation.
#[test]
fn the_double_derives_keys_as_aws_documents_it() {
    let parts = ["20150830", "us-east-1", "iam", "aws4_request"];
    let key = parts.iter().fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

/// Exit code and what it says, run with a profile's credentials and nothing else of AWS's.
async fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    let mut command = tokio::process::Command::from(Command::new(binary()));
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
        .env("AWS_CONFIG_FILE", folder.join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.join("credentials"));
    // Nor has the host any certificate authorities.
    command.env("SSL_CERT_FILE", "/nowhere/ca.pem").env("SSL_CERT_DIR", "/nowhere");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", folder).env("XDG_STATE_HOME", folder);
    command.envs(variables.iter().copied());
    let ended = command.output().await.unwrap();
    let text = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (ended.status.code().unwrap(), text.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_a_profile_reaches_a_stack_and_hears_awss_own_words() {
    let folder = tempdir().unwrap();
    let start = Start::quiet(folder.path());
    let system = System::up(&start);
    let (gateway, url) = Gateway::before(&system, &start).await;
    let profile = |name: &str, id: &str, secret: &str, token: Option<&str>| {
        let token = token.map(|token| format!("aws_session_token = {token}\n")).unwrap_or_default();
        format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n{token}\n")
    };
    let profiles = [
        profile("operator", ID, SECRET, None),
        profile("assumed", ID, SECRET, Some(TOKEN)),
        profile("late", ID, SECRET, Some("old")),
        profile("forged", ID, "another", None),
        profile("stranger", "AKIDSTRANGER", SECRET, None),
    ];
    std::fs::write(folder.path().join("credentials"), profiles.concat()).unwrap();
    let process = format!("{{\"Version\": 1, \"AccessKeyId\": \"{ID}\", \"SecretAccessKey\": \"{SECRET}\"}}");
    std::fs::write(folder.path().join("process.json"), process).unwrap();
    let process = format!("[profile process]\ncredential_process = cat {}/process.json\n", folder.path().display());
    std::fs::write(folder.path().join("config"), process).unwrap();
    let as_profile = |profile: &'static str| {
        let variables =
            [("AWS_PROFILE", profile), ("STREAMMANAGER_ENDPOINT", &*url), ("STREAMMANAGER_AWS_REGION", REGION)];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let run = async |profile: &'static str, arguments: &[&str]| {
        let variables = as_profile(profile);
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        run(folder.path(), &variables, arguments).await
    };

    let streams = "version: 1\nstreams:\n  - {id: snpp, source_id: firms_viirs_snpp, connector: firms, tenant: test, \
                   interval: 1h, config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1], days: 1}}\n";
    std::fs::write(folder.path().join("streams.yaml"), streams).unwrap();
    let (code, said) = run("operator", &["streams", "apply", "streams.yaml"]).await;
    assert!(code == 0 && said.contains("+ snpp"), "{said}");
    std::fs::write(folder.path().join("streams.yaml"), streams.replace("id: snpp", "id: other")).unwrap();
    let (code, said) = run("assumed", &["streams", "apply", "--prune", "streams.yaml"]).await;
    assert!(code == 0 && said.contains("+ other") && said.contains("- snpp"), "{said}");
    let (code, said) = run("process", &["streams", "status", "other"]).await;
    assert!(code == 0 && said.contains("firms_viirs_snpp"), "{said}");

    let register = [
        "connectors",
        "register",
        "butte",
        "--tenant",
        "butte",
        "--critical",
        "--source",
        "evacuation_alert_butte",
        "--principal",
        "a1b2c3d4",
        "--key-file",
        "butte.key",
    ];
    let (code, said) = run("operator", &register).await;
    assert!(code == 0 && said.contains("the key is in butte.key"), "{said}");
    let (code, said) = run("operator", &["connectors", "list", "--json"]).await;
    assert!(code == 0 && said.contains(r#""principal":"a1b2c3d4""#), "{said}");
    // A blank and an umlaut in the query.
    let (code, said) = run("operator", &["trace", "böse sender,BUTTE+1"]).await;
    assert!(!said.contains("refused with status 403"), "{code} {said}");
    // O8: how a stack is, as on a host.
    let (code, said) = run("operator", &["status"]).await;
    assert!(code == 0 && said.contains("alerts: breaker closed") && said.contains("1 of 1 active"), "{said}");
    let (code, said) = run("assumed", &["top", "--screens", "1"]).await;
    assert!(code == 0 && said.contains("CRITICAL") && said.contains("other"), "{said}");
    let all = gateway.let_in.lock().len();
    assert_eq!(all, 9, "{:?}", gateway.let_in.lock());

    for (profile, words) in [
        ("late", "refused with status 403: The security token included in the request is expired"),
        ("forged", "refused with status 403: Forbidden; the request was signed by AKIDEXAMPLE for us-west-2"),
        ("stranger", "refused with status 403: Forbidden; the request was signed by AKIDSTRANGER"),
        ("nobody", "no credentials to sign with"),
    ] {
        let (code, said) = run(profile, &["streams", "list"]).await;
        assert!(code == 1 && said.contains(words) && said.contains("AWS_PROFILE"), "{profile}: {said}");
        assert!(!said.contains(SECRET) && !said.contains(TOKEN), "{profile}: {said}");
    }
    let (code, said) = run("operator", &register).await;
    assert_eq!(code, 1, "the system's own words, signed or not: {said}");
    assert_eq!(gateway.let_in.lock().len(), all);
}
