//! Rules of API Gateway's HTTP APIs with a Lambda integration, over real connections.

use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use streammanager::time::Clock;
use streammanager_host::up::laboratory::CONTROL_KEY;

use super::case::{Case, Outcome, Unmet, cases, holds};
use super::lab::{World, fine, function, refused};

pub type Check = fn(()) -> BoxFuture<'static, Outcome>;

const LAMBDA: &str =
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html";
const ROUTES: &str = "https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html";
const IAM: &str = "https://repost.aws/knowledge-center/api-gateway-troubleshoot-403-forbidden";
const QUOTAS: &str = "https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html";
const INTEGRATION: &str =
    "https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations-integrationid.html";
const TROUBLE: &str =
    "https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-troubleshooting-lambda.html";

/// Each with its method, path and further properties.
fn routes(routes: &[(&str, &str, &str)]) -> String {
    let events = routes.iter().enumerate().map(|(n, (method, path, more))| {
        format!("E{n}: {{Type: HttpApi, Properties: {{Method: {method}, Path: '{path}', {more}}}}}, ")
    });
    function("F", "Timeout: 60,", &events.collect::<String>())
}

async fn serving(
    all: &[(&str, &str, &str)],
    takes: Duration,
    answer: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
) -> Result<World, Unmet> {
    World::start(&routes(all), Clock::system(), takes, Box::new(move |_, event, _| answer(event))).await
}

struct Said {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Said {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

async fn ask(world: &World, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Said, Unmet> {
    let mut request = streammanager_tests::system::client().request(method, world.lab.url(path)).body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Said { status, headers, body: response.bytes().await?.to_vec() })
}

/// The event of a request to `POST /items/{id}`.
async fn event(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Value, Unmet> {
    let world = serving(&[("POST", "/items/{id}", "")], Duration::ZERO, |_| Ok(json!({}))).await?;
    holds!(ask(&world, Method::POST, path, headers, body).await?.status, 200);
    Ok(world.events()[0].clone())
}

/// What a client gets when the function answers this.
async fn answered(answer: Value) -> Result<Said, Unmet> {
    let world = serving(&[("GET", "/", "")], Duration::ZERO, move |_| Ok(answer.clone())).await?;
    ask(&world, Method::GET, "/", &[], b"").await
}

/// The route that a request takes.
async fn taken(method: Method, path: &str) -> Result<Value, Unmet> {
    let all = [
        ("GET", "/pets/dog/1", ""),
        ("GET", "/pets/dog/{id}", ""),
        ("GET", "/pets/{proxy+}", ""),
        ("ANY", "/{proxy+}", ""),
    ];
    let world = serving(&all, Duration::ZERO, |event| Ok(json!({ "route": event["routeKey"] }))).await?;
    Ok(ask(&world, method, path, &[], b"").await?.json()["route"].clone())
}

pub const CASES: &[Case<Check>] = cases![
    "http/version", LAMBDA, "An event of payload format 2.0 says so as version.", |()| {
        holds!(event("/items/7", &[], b"").await?["version"], json!("2.0"));
    }
    "http/route-key", LAMBDA, "routeKey is the route's method and path as the API has them.", |()| {
        let event = event("/items/7", &[], b"").await?;
        holds!(event["routeKey"], json!("POST /items/{id}"));
        holds!(event["requestContext"]["routeKey"], json!("POST /items/{id}"));
    }
    "http/raw-path", LAMBDA, "rawPath is the path of the request.", |()| {
        holds!(event("/items/7?a=1", &[], b"").await?["rawPath"], json!("/items/7"));
    }
    "http/path-parameters", LAMBDA, "pathParameters holds the route's path variables.", |()| {
        holds!(event("/items/7", &[], b"").await?["pathParameters"], json!({ "id": "7" }));
    }
    "http/raw-query", LAMBDA, "rawQueryString is the query as it was sent.", |()| {
        holds!(event("/items/7?a=1&a=2&b=x%20y", &[], b"").await?["rawQueryString"], json!("a=1&a=2&b=x%20y"));
    }
    "http/no-query", LAMBDA, "Without a query rawQueryString is empty.", |()| {
        holds!(event("/items/7", &[], b"").await?["rawQueryString"], json!(""));
    }
    "http/query-joined", LAMBDA, "Query parameters of one name are joined by commas.", |()| {
        holds!(event("/items/7?a=1&a=2&b=3", &[], b"").await?["queryStringParameters"], json!({ "a": "1,2", "b": "3" }));
    }
    "http/no-multi-values", LAMBDA, "Format 2.0 has neither multiValueHeaders nor multiValueQueryStringParameters.", |()| {
        let event = event("/items/7?a=1&a=2", &[("x-a", "1")], b"").await?;
        holds!(event.get("multiValueHeaders").is_none() && event.get("multiValueQueryStringParameters").is_none());
    }
    "http/header-names", LAMBDA, "Names of headers are in lower case.", |()| {
        let event = event("/items/7", &[("X-Zone-Name", "A")], b"").await?;
        holds!(event["headers"]["x-zone-name"], json!("A"));
    }
    "http/headers-joined", LAMBDA, "Headers of one name are joined by commas.", |()| {
        let event = event("/items/7", &[("x-a", "1"), ("x-a", "2")], b"").await?;
        holds!(event["headers"]["x-a"], json!("1,2"));
    }
    "http/cookies", LAMBDA, "Cookies of the request stand in cookies.", |()| {
        let event = event("/items/7", &[("cookie", "a=1; b=2")], b"").await?;
        holds!(event["cookies"], json!(["a=1", "b=2"]));
    }
    "http/context", LAMBDA, "requestContext.http has method, path, protocol, source address and user agent.", |()| {
        let event = event("/items/7", &[("user-agent", "lookout")], b"").await?;
        holds!(event["requestContext"]["http"], json!({ "method": "POST", "path": "/items/7", "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1", "userAgent": "lookout" }));
    }
    "http/context-time", LAMBDA, "requestContext says when the request came, as a text and in milliseconds since 1970.", |()| {
        let event = event("/items/7", &[], b"").await?;
        let context = &event["requestContext"];
        let now = Clock::system().now().as_millisecond();
        holds!(context["timeEpoch"].as_i64().is_some_and(|at| (now - at).abs() < 60_000));
        holds!(context["time"].as_str().is_some_and(|text| text.len() == 26 && text.ends_with(" +0000")));
    }
    "http/request-ids", LAMBDA, "Each request has a requestId of its own.", |()| {
        let world = serving(&[("GET", "/", "")], Duration::ZERO, |_| Ok(json!({}))).await?;
        for _ in 0..2 {
            ask(&world, Method::GET, "/", &[], b"").await?;
        }
        let ids: Vec<Value> = world.events().iter().map(|event| event["requestContext"]["requestId"].clone()).collect();
        holds!(ids.len() == 2 && ids[0].is_string() && ids[0] != ids[1]);
    }
    "http/body-text", LAMBDA, "A JSON body comes as text, with isBase64Encoded false.", |()| {
        let event = event("/items/7", &[("content-type", "application/json")], b"{\"a\":1}").await?;
        holds!([&event["body"], &event["isBase64Encoded"]], [&json!("{\"a\":1}"), &json!(false)]);
    }
    "http/body-binary", LAMBDA, "A binary body comes as base64, with isBase64Encoded true.", |()| {
        let event = event("/items/7", &[("content-type", "application/octet-stream")], b"\xff\x00").await?;
        holds!([&event["body"], &event["isBase64Encoded"]], [&json!("/wA="), &json!(true)]);
    }
    "http/inferred-object", LAMBDA, "An answer without statusCode is the body of a 200 with the content type application/json.", |()| {
        let said = answered(json!({ "message": "Hello" })).await?;
        holds!((said.status, said.header("content-type"), said.json()), (200, "application/json", json!({ "message": "Hello" })));
    }
    "http/inferred-text", LAMBDA, "A text as answer is the body itself, without quotation marks.", |()| {
        let said = answered(json!("Hello from Lambda!")).await?;
        holds!((said.status, said.header("content-type"), &said.body[..]), (200, "application/json", &b"Hello from Lambda!"[..]));
    }
    "http/status", LAMBDA, "The answer's statusCode is the response's status.", |()| {
        holds!(answered(json!({ "statusCode": 418, "body": "" })).await?.status, 418);
    }
    "http/answer-headers", LAMBDA, "The answer's headers are the response's.", |()| {
        let said = answered(json!({ "statusCode": 200, "headers": { "content-type": "text/csv", "x-a": "1" }, "body": "a" })).await?;
        holds!((said.header("content-type"), said.header("x-a")), ("text/csv", "1"));
    }
    "http/answer-cookies", LAMBDA, "Each cookie of the answer becomes a set-cookie header.", |()| {
        let said = answered(json!({ "statusCode": 200, "cookies": ["a=1", "b=2"], "body": "" })).await?;
        let cookies: Vec<&str> = said.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect();
        holds!(cookies, ["a=1", "b=2"]);
    }
    "http/answer-base64", LAMBDA, "A body with isBase64Encoded true is sent as the bytes that it stands for.", |()| {
        let said = answered(json!({ "statusCode": 200, "isBase64Encoded": true, "body": "/wA=" })).await?;
        holds!(said.body, [0xff, 0]);
    }
    "http/function-error", TROUBLE, "A function that fails is a 500 with the message Internal Server Error.", |()| {
        let world = serving(&[("GET", "/", "")], Duration::ZERO, |_| Err("it fails".into())).await?;
        let said = ask(&world, Method::GET, "/", &[], b"").await?;
        holds!((said.status, said.json()), (500, json!({ "message": "Internal Server Error" })));
    }
    "http/bad-answer", TROUBLE, "An answer that has not the format's shape is a 500 with the message Internal Server Error.", |()| {
        let said = answered(json!({ "statusCode": "good", "body": "" })).await?;
        holds!((said.status, said.json()), (500, json!({ "message": "Internal Server Error" })));
    }
    "http/no-route", ROUTES, "A request that no route takes is answered with the message Not Found.", |()| {
        let world = serving(&[("GET", "/items", "")], Duration::ZERO, |_| Ok(json!({}))).await?;
        let said = ask(&world, Method::GET, "/other", &[], b"").await?;
        holds!((said.status, said.json()), (404, json!({ "message": "Not Found" })));
        holds!(world.calls().len(), 0);
    }
    "http/no-method", ROUTES, "A route is a method and a path: another method on its path is answered with Not Found.", |()| {
        let world = serving(&[("GET", "/items", "")], Duration::ZERO, |_| Ok(json!({}))).await?;
        let said = ask(&world, Method::DELETE, "/items", &[], b"").await?;
        holds!((said.status, said.json()), (404, json!({ "message": "Not Found" })));
    }
    "http/any-method", ROUTES, "ANY takes every method that the path has no route for.", |()| {
        let all = [("GET", "/items", ""), ("ANY", "/items", "")];
        let world = serving(&all, Duration::ZERO, |event| Ok(json!({ "route": event["routeKey"] }))).await?;
        let route = async |method| Ok::<_, Unmet>(ask(&world, method, "/items", &[], b"").await?.json()["route"].clone());
        holds!(route(Method::GET).await?, json!("GET /items"));
        holds!(route(Method::PATCH).await?, json!("ANY /items"));
    }
    "http/greedy", ROUTES, "A greedy path variable takes all levels below it.", |()| {
        let world = serving(&[("GET", "/files/{path+}", "")], Duration::ZERO, |event| Ok(event["pathParameters"].clone())).await?;
        holds!(ask(&world, Method::GET, "/files/a/b/c", &[], b"").await?.json(), json!({ "path": "a/b/c" }));
    }
    "http/full-match", ROUTES, "A route that matches fully is taken before one with a variable.", |()| {
        holds!(taken(Method::GET, "/pets/dog/1").await?, json!("GET /pets/dog/1"));
    }
    "http/variable-match", ROUTES, "A route with a variable is taken before one with a greedy variable.", |()| {
        holds!(taken(Method::GET, "/pets/dog/2").await?, json!("GET /pets/dog/{id}"));
    }
    "http/greedy-match", ROUTES, "Of two greedy routes the more specific one is taken.", |()| {
        holds!(taken(Method::GET, "/pets/cat/1").await?, json!("GET /pets/{proxy+}"));
    }
    "http/greedy-any", ROUTES, "A greedy ANY route takes what no other route does.", |()| {
        holds!(taken(Method::POST, "/test/5").await?, json!("ANY /{proxy+}"));
    }
    "http/specific-of-its-method", ROUTES, "Routes compete by path and method together: a more specific path with another method is no match.", |()| {
        holds!(taken(Method::POST, "/pets/dog/1").await?, json!("ANY /{proxy+}"));
    }
    "http/greedy-is-last", ROUTES, "A greedy path variable must be the end of the path.", |()| {
        refused(&routes(&[("GET", "/{path+}/x", "")]), "greedy").await?;
    }
    "http/iam-unsigned", IAM, "A request without a signature to a route with IAM authorization is answered with 403 and the message Forbidden.", |()| {
        let world = serving(&[("GET", "/", "Auth: {Authorizer: AWS_IAM}")], Duration::ZERO, |_| Ok(json!({}))).await?;
        let said = ask(&world, Method::GET, "/", &[], b"").await?;
        holds!((said.status, said.json()), (403, json!({ "message": "Forbidden" })));
        holds!(world.calls().len(), 0);
    }
    "http/iam-authorizer", LAMBDA, "A signed request to such a route tells the function who signed it, in requestContext.authorizer.iam.", |()| {
        let world = serving(&[("GET", "/", "Auth: {Authorizer: AWS_IAM}")], Duration::ZERO, |_| Ok(json!({}))).await?;
        let key = format!("Bearer {CONTROL_KEY}");
        holds!(ask(&world, Method::GET, "/", &[("authorization", &key)], b"").await?.status, 200);
        holds!(world.events()[0]["requestContext"]["authorizer"]["iam"]["userArn"].is_string());
    }
    "http/open-route", IAM, "A route without an authorizer answers everybody.", |()| {
        let world = serving(&[("GET", "/", "")], Duration::ZERO, |_| Ok(json!({}))).await?;
        holds!(ask(&world, Method::GET, "/", &[], b"").await?.status, 200);
    }
    "http/timeout-bounds", INTEGRATION, "An integration's timeout is from 50 to 30,000 milliseconds.", |()| {
        for bad in ["49", "30001"] {
            refused(&routes(&[("GET", "/", &format!("TimeoutInMillis: {bad}"))]), "TimeoutInMillis").await?;
        }
        World::new(&routes(&[("GET", "/", "TimeoutInMillis: 50")]), fine).await?;
    }
];

/// Asked on a paused clock.
pub const TIMED: &[Case<Check>] = cases![
    "http/timeout", QUOTAS, "A function that has not answered after 30 seconds is a 503 with the message Service Unavailable.", |()| {
        let world = serving(&[("GET", "/", "")], Duration::from_secs(40), |_| Ok(json!({}))).await?;
        let begun = tokio::time::Instant::now();
        let said = ask(&world, Method::GET, "/", &[], b"").await?;
        holds!((said.status, said.json()), (503, json!({ "message": "Service Unavailable" })));
        holds!(begun.elapsed().as_secs(), 30);
    }
    "http/own-timeout", INTEGRATION, "An integration's own timeout takes the place of the 30 seconds.", |()| {
        let world = serving(&[("GET", "/", "TimeoutInMillis: 7000")], Duration::from_secs(40), |_| Ok(json!({}))).await?;
        let begun = tokio::time::Instant::now();
        holds!(ask(&world, Method::GET, "/", &[], b"").await?.status, 503);
        holds!(begun.elapsed().as_secs(), 7);
    }
];
