//! Whom a route answers: the event's own authorizer, its API's default, or what SAM's globals say.

use super::{read, with_resources};
use crate::template::{Auth, Template, Trigger};

/// A function with one HTTP event of these properties, and an API that asks for signed requests.
fn routed(event: &str) -> Template {
    read(&with_resources(&format!(
        "  Api: {{Type: AWS::Serverless::HttpApi, Properties: {{Auth: {{EnableIamAuthorizer: true, DefaultAuthorizer: AWS_IAM}}}}}}\n  \
         F:\n    Type: AWS::Serverless::Function\n    Metadata: {{BuildProperties: {{Binary: f}}}}\n    \
         Properties: {{Events: {{E: {{Type: HttpApi, Properties: {{Method: GET, Path: /a{event}}}}}}}}}\n"
    )))
}

fn auth(template: &Template) -> Option<Auth> {
    template.functions[0].triggers.iter().find_map(|trigger| match trigger {
        Trigger::Http { auth, .. } => Some(*auth),
        _ => None,
    })
}

#[test]
fn l5_a_route_answers_whom_the_template_says() {
    for (event, expected) in [
        (", ApiId: !Ref Api", Auth::Signed),
        (", ApiId: !Ref Api, Auth: {Authorizer: NONE}", Auth::Open),
        (", ApiId: !Ref Api, Auth: {Authorizer: AWS_IAM}", Auth::Signed),
        ("", Auth::Open),
        (", Auth: {Authorizer: AWS_IAM}", Auth::Signed),
    ] {
        assert_eq!(auth(&routed(event)), Some(expected), "{event}");
    }
    let globals = "Transform: AWS::Serverless-2016-10-31\nGlobals: {HttpApi: {Auth: {DefaultAuthorizer: AWS_IAM}}}\n";
    let function = "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Metadata: {BuildProperties: {Binary: f}}\n    \
                    Properties: {Events: {E: {Type: HttpApi, Properties: {Method: GET, Path: /a}}}}\n";
    assert_eq!(auth(&read(&format!("{globals}{function}"))), Some(Auth::Signed));
}

#[test]
fn l2_a_route_whose_authorizer_cannot_run_here_is_named_and_not_served() {
    let template = routed(", ApiId: !Ref Api, Auth: {Authorizer: Tokens}");
    assert_eq!(auth(&template), None);
    let said: Vec<_> = template.unsupported.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|line| line.contains("Tokens") && line.contains("not served")), "{said:?}");
}
