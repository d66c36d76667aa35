//! What API Gateway's HTTP API makes of a request and of a function's answer: payload format 2.0, and the answers that it gives
//! itself [L5].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use streammanager::time::Timestamp;

use crate::runtime::RESPONSE_BYTES;
use crate::template::{ACCOUNT, Auth};
use crate::up::routes::Route;

/// The holder of the control key, in AWS's words.
const CONTROL_KEY_HOLDER: &str = "arn:aws:iam::000000000000:user/control-key";

/// A request that leads to a route.
pub(super) struct Incoming<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    pub(super) parameters: &'a BTreeMap<String, String>,
    pub(super) from: SocketAddr,
    pub(super) route: &'a Route,
    pub(super) request_id: String,
    pub(super) now: Timestamp,
}

impl Incoming<'_> {
    /// What the function is given.
    pub(super) fn event(&self) -> Value {
        let Incoming { method, uri, route, .. } = self;
        let (query, route_key) = (uri.query().unwrap_or_default(), format!("{} {}", route.method, route.path));
        let headers = self.headers();
        let domain = headers.get("host").cloned().unwrap_or_default();
        let (body, encoded) = self.body();
        let mut event = json!({
            "version": "2.0",
            "routeKey": route_key,
            "rawPath": uri.path(),
            "rawQueryString": query,
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": "local",
                "domainName": domain,
                "domainPrefix": "local",
                "http": {
                    "method": method.as_str(), "path": uri.path(), "protocol": "HTTP/1.1",
                    "sourceIp": self.from.ip().to_string(),
                    "userAgent": headers.get("user-agent").cloned().unwrap_or_default(),
                },
                "requestId": self.request_id,
                "routeKey": route_key,
                "stage": "$default",
                "time": self.now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": self.now.as_millisecond(),
            },
            "headers": headers,
            "isBase64Encoded": encoded,
        });
        if let Some(body) = body {
            event["body"] = json!(body);
        }
        let cookies: Vec<String> = self.headers.get_all(header::COOKIE).iter().flat_map(cookies).collect();
        for (name, given) in [
            ("cookies", json!(cookies)),
            ("queryStringParameters", json!(query_parameters(query))),
            ("pathParameters", json!(self.parameters)),
        ] {
            let is_empty =
                given.as_array().is_some_and(Vec::is_empty) || given.as_object().is_some_and(|of| of.is_empty());
            if !is_empty {
                event[name] = given;
            }
        }
        if route.auth == Auth::Signed {
            event["requestContext"]["authorizer"] =
                json!({ "iam": { "accountId": ACCOUNT, "userArn": CONTROL_KEY_HOLDER } });
        }
        event
    }

    /// Names in lower case, those of one name joined by commas; cookies stand by themselves.
    fn headers(&self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in self.headers.iter().filter(|(name, _)| **name != header::COOKIE) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let joined = headers.entry(name.as_str().to_owned());
            joined.and_modify(|before| *before = format!("{before},{value}")).or_insert_with(|| value.into_owned());
        }
        headers
    }

    /// As text where the request calls it one, else as base64; none without a body.
    fn body(&self) -> (Option<String>, bool) {
        if self.body.is_empty() {
            return (None, false);
        }
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match std::str::from_utf8(self.body) {
            Ok(text) if kind.is_none_or(is_text) => (Some(text.to_owned()), false),
            _ => (Some(BASE64.encode(self.body)), true),
        }
    }
}

fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/json", "application/javascript", "application/xml"];
    kind.starts_with("text/") || known.contains(&kind.as_str()) || kind.ends_with("+json") || kind.ends_with("+xml")
}

fn cookies(header: &header::HeaderValue) -> Vec<String> {
    let text = String::from_utf8_lossy(header.as_bytes()).into_owned();
    text.split(';').map(|cookie| cookie.trim().to_owned()).filter(|cookie| !cookie.is_empty()).collect()
}

/// As API Gateway gives them: decoded, those of one name joined by commas [L5].
pub(super) fn query_parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::<String, String>::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let joined = parameters.entry(name.into_owned());
        joined.and_modify(|before| *before = format!("{before},{value}")).or_insert_with(|| value.into_owned());
    }
    parameters
}

/// What API Gateway answers itself.
pub(super) fn own(status: StatusCode) -> Response {
    let message = status.canonical_reason().unwrap_or_default();
    (status, axum::Json(json!({ "message": message }))).into_response()
}

/// A function's answer; one without `statusCode` is the body of a 200. An answer that is none, or is larger than Lambda lets it
/// be, is the API's 500.
pub(super) fn answer(value: &Value) -> Response {
    answered(value).unwrap_or_else(|| own(StatusCode::INTERNAL_SERVER_ERROR))
}

fn answered(value: &Value) -> Option<Response> {
    let Some(status) = value.get("statusCode") else {
        let body = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return Some(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    };
    let status = status.as_u64().or_else(|| status.as_str()?.parse().ok())?;
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let body = match value.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if value["isBase64Encoded"] == json!(true) => BASE64.decode(text).ok()?,
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(_) => return None,
    };
    if body.len() > RESPONSE_BYTES {
        return None;
    }
    let mut answer = (status, [(header::CONTENT_TYPE, "text/plain;charset=UTF-8")], body).into_response();
    let set = |answer: &mut Response, name: &str, value: &Value, appends: bool| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), header::HeaderValue::try_from(text)) {
            match appends {
                true => _ = answer.headers_mut().append(name, value),
                false => _ = answer.headers_mut().insert(name, value),
            }
        }
    };
    for (name, header) in value["headers"].as_object().into_iter().flatten() {
        set(&mut answer, name, header, false);
    }
    for cookie in value["cookies"].as_array().into_iter().flatten() {
        set(&mut answer, "set-cookie", cookie, true);
    }
    Some(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn incoming(headers: &[(&str, &str)], body: &[u8]) -> Value {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let route = Route {
            method: "POST".into(),
            path: "/streams/{id}".into(),
            auth: Auth::Open,
            timeout: Duration::from_secs(30),
            function: "F".into(),
        };
        Incoming {
            method: &Method::POST,
            uri: &"/streams/modis?id=a&id=b&q=x%20y".parse().unwrap(),
            headers: &map,
            body: &Bytes::copy_from_slice(body),
            parameters: &[("id".to_owned(), "modis".to_owned())].into(),
            from: ([192, 0, 2, 1], 40_000).into(),
            route: &route,
            request_id: "id".into(),
            now: Timestamp::from_millisecond(1_583_348_638_390).unwrap(),
        }
        .event()
    }

    #[test]
    fn l5_a_request_becomes_payload_format_2() {
        let headers =
            [("Host", "api.example"), ("X-A", "1"), ("X-A", "2"), ("Cookie", "a=1; b=2"), ("User-Agent", "u")];
        let expected = json!({
            "version": "2.0",
            "routeKey": "POST /streams/{id}",
            "rawPath": "/streams/modis",
            "rawQueryString": "id=a&id=b&q=x%20y",
            "cookies": ["a=1", "b=2"],
            "headers": { "host": "api.example", "x-a": "1,2", "user-agent": "u" },
            "queryStringParameters": { "id": "a,b", "q": "x y" },
            "requestContext": {
                "accountId": "000000000000", "apiId": "local", "domainName": "api.example", "domainPrefix": "local",
                "http": {
                    "method": "POST", "path": "/streams/modis", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "u",
                },
                "requestId": "id", "routeKey": "POST /streams/{id}", "stage": "$default",
                "time": "04/Mar/2020:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64,
            },
            "body": "{}",
            "pathParameters": { "id": "modis" },
            "isBase64Encoded": false,
        });
        assert_eq!(incoming(&headers, b"{}"), expected);
        assert_eq!(incoming(&headers, b"").get("body"), None);
    }

    #[test]
    fn l5_a_body_that_is_not_called_text_comes_as_base64() {
        for (kind, body, expected) in [
            ("application/json; charset=utf-8", &b"{}"[..], ("{}", false)),
            ("application/cap+xml", b"<a/>", ("<a/>", false)),
            ("text/plain", b"\xff", ("/w==", true)),
            ("application/x-www-form-urlencoded", b"a=1", ("YT0x", true)),
            ("application/octet-stream", b"a", ("YQ==", true)),
        ] {
            let event = incoming(&[("Content-Type", kind)], body);
            assert_eq!(
                (event["body"].as_str().unwrap(), event["isBase64Encoded"].as_bool().unwrap()),
                expected,
                "{kind}"
            );
        }
    }

    async fn said(response: Response) -> (u16, String, String) {
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn l5_an_answer_without_a_status_is_a_body_and_one_that_is_none_is_the_api_s_500() {
        let of = async |value: Value| said(answer(&value)).await;
        let json_type = "application/json".to_owned();
        assert_eq!(of(json!({ "a": 1 })).await, (200, json_type.clone(), r#"{"a":1}"#.into()));
        assert_eq!(of(json!("text")).await, (200, json_type.clone(), "text".into()));
        let base64 = json!({ "statusCode": 201, "isBase64Encoded": true, "body": "YQ==", "headers": { "X-A": 1 } });
        assert_eq!(of(base64).await, (201, "text/plain;charset=UTF-8".into(), "a".into()));
        let cookies = answer(&json!({ "statusCode": "200", "cookies": ["a=1", "b=2"] }));
        assert_eq!(cookies.headers().get_all("set-cookie").iter().count(), 2);
        let error = (500, json_type.clone(), r#"{"message":"Internal Server Error"}"#.to_owned());
        let large = json!({ "statusCode": 200, "body": "x".repeat(RESPONSE_BYTES + 1) });
        for bad in [json!({ "statusCode": "x" }), json!({ "statusCode": 200, "body": {} }), large] {
            assert_eq!(of(bad).await, error);
        }
        let not_found = said(own(StatusCode::NOT_FOUND)).await;
        assert_eq!(not_found, (404, json_type, r#"{"message":"Not Found"}"#.into()));
    }

    #[test]
    fn l5_parameters_come_decoded_and_those_of_one_name_joined() {
        let got = query_parameters("alert=oes%40butte.example%2CZONE+1&max=2&id=a&id=b&empty=&bare");
        let want = [("alert", "oes@butte.example,ZONE 1"), ("bare", ""), ("empty", ""), ("id", "a,b"), ("max", "2")];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
