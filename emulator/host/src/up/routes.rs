//! The HTTP API's routes, as the template says them: which function a request starts, and whom the route answers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exit::Failure;
use crate::template::Auth;

/// One route of the template.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Upper case, or `ANY`.
    pub(crate) method: String,
    /// Such as `/streams/{id}`.
    pub(crate) path: String,
    pub(crate) auth: Auth,
    /// What a request waits for its function.
    pub(crate) timeout: Duration,
    /// The function's logical id.
    pub(crate) function: String,
}

/// All routes, the most specific first: a path's own texts come before its variables, both before a greedy variable, and a
/// method before `ANY`. So the first that takes a request's method and path is the one that API Gateway chooses.
pub(crate) struct Routes(Vec<(Vec<Part>, Route)>);

/// What stands between two slashes of a route's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `{id}`
    Variable(String),
    /// `{path+}`: the rest of the path.
    Greedy(String),
}

impl Routes {
    /// # Errors
    /// For routes that cannot be told apart, and for what follows a greedy variable.
    pub(crate) fn new(routes: Vec<Route>) -> Result<Routes, Failure> {
        let mut parsed = BTreeMap::new();
        for route in routes {
            let parts: Vec<Part> = route.path.split('/').map(Part::parse).collect();
            let ranks: Vec<Rank> = parts.iter().map(Part::rank).collect();
            let path = route.path.clone();
            if parts[..parts.len() - 1].iter().any(|part| matches!(part, Part::Greedy(_))) {
                return Err(Failure::new(format!("template: route {path}: a greedy variable must be its end")));
            }
            let greedy = matches!(parts.last(), Some(Part::Greedy(_)));
            let order = (greedy, ranks, route.method == "ANY", route.method.clone());
            if let Some((_, other)) = parsed.insert(order, (parts, route)) {
                return Err(Failure::new(format!("template: route {path}: {} takes the same requests", other.path)));
            }
        }
        Ok(Routes(parsed.into_values().collect()))
    }

    /// What a request's method and path lead to, with the parameters in its path.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<(&Route, BTreeMap<String, String>)> {
        let of_method = self.0.iter().filter(|(_, route)| route.method == method || route.method == "ANY");
        of_method.into_iter().find_map(|(parts, route)| Some((route, parameters(parts, path)?)))
    }
}

/// Texts that differ are in no order that matters: no path has both.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Text(String),
    Variable,
    Greedy,
}

impl Part {
    fn parse(text: &str) -> Part {
        match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => match name.strip_suffix('+') {
                Some(name) => Part::Greedy(name.to_owned()),
                None => Part::Variable(name.to_owned()),
            },
            None => Part::Text(text.to_owned()),
        }
    }

    fn rank(&self) -> Rank {
        match self {
            Part::Text(text) => Rank::Text(text.clone()),
            Part::Variable(_) => Rank::Variable,
            Part::Greedy(_) => Rank::Greedy,
        }
    }
}

/// `None`: the route does not take this path.
fn parameters(parts: &[Part], path: &str) -> Option<BTreeMap<String, String>> {
    let (mut found, mut rest) = (BTreeMap::new(), Some(path));
    for part in parts {
        let here = rest?;
        let (level, after) = here.split_once('/').map_or((here, None), |(level, after)| (level, Some(after)));
        match part {
            Part::Text(text) if text == level => {}
            Part::Variable(name) if !level.is_empty() => _ = found.insert(name.clone(), level.to_owned()),
            Part::Greedy(name) if !here.is_empty() => {
                found.insert(name.clone(), here.to_owned());
                return Some(found);
            }
            _ => return None,
        }
        rest = after;
    }
    rest.is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str, function: &str) -> Route {
        let timeout = Duration::from_secs(30);
        Route { method: method.into(), path: path.into(), auth: Auth::Open, timeout, function: function.into() }
    }

    fn found(routes: &Routes, method: &str, path: &str) -> String {
        match routes.find(method, path) {
            Some((route, parameters)) => format!("{} {parameters:?}", route.function),
            None => "nothing".into(),
        }
    }

    #[test]
    fn l2_a_request_starts_the_function_of_its_route_and_carries_its_parameters() {
        let routes = Routes::new(vec![
            route("GET", "/streams/{id}", "read"),
            route("POST", "/streams/{name}/start", "start"),
            route("DELETE", "/streams/{stream}", "delete"),
            route("ANY", "/files/{path+}", "files"),
            route("POST", "/alerts", "alerts"),
        ])
        .unwrap();
        assert_eq!(found(&routes, "GET", "/streams/modis"), r#"read {"id": "modis"}"#);
        assert_eq!(found(&routes, "DELETE", "/streams/modis"), r#"delete {"stream": "modis"}"#);
        assert_eq!(found(&routes, "POST", "/streams/modis/start"), r#"start {"name": "modis"}"#);
        assert_eq!(found(&routes, "PUT", "/files/a/b"), r#"files {"path": "a/b"}"#);
        assert_eq!(found(&routes, "POST", "/alerts"), "alerts {}");
        assert_eq!(found(&routes, "GET", "/alerts"), "nothing", "another method's route is none");
        for other in ["/streams", "/streams//start", "/streams/modis/stop", "/streams/modis/start/x", "/alerts/", "/"] {
            assert_eq!(found(&routes, "POST", other), "nothing", "{other}");
        }
    }

    #[test]
    fn l5_the_most_specific_route_is_taken() {
        let routes = Routes::new(vec![
            route("ANY", "/{proxy+}", "any"),
            route("GET", "/pets/{proxy+}", "greedy"),
            route("GET", "/pets/dog/{id}", "variable"),
            route("GET", "/pets/dog/1", "full"),
            route("ANY", "/pets/dog/{id}/owner", "owner"),
        ])
        .unwrap();
        for (method, path, function) in [
            ("GET", "/pets/dog/1", "full"),
            ("GET", "/pets/dog/2", "variable"),
            ("GET", "/pets/cat/1", "greedy"),
            ("POST", "/test/5", "any"),
            ("POST", "/pets/dog/1", "any"),
            ("GET", "/pets/dog/1/owner", "owner"),
        ] {
            assert_eq!(routes.find(method, path).unwrap().0.function, function, "{method} {path}");
        }
    }

    #[test]
    fn routes_that_cannot_be_told_apart_are_refused_and_nothing_panics() {
        for path in ["/a/{b+}/c", "/{", "/}", "/a{b}", "/{a}{b}", "/{}", "/{+}", "//", "/{a+}/{b+}"] {
            let _ = Routes::new(vec![route("GET", path, "f"), route("GET", "/a/{b}", "g")]);
        }
        for (one, other) in [("/a/{b}", "/a/{c}"), ("/a/{b+}", "/a/{c+}"), ("/a/{b+}/c", "/d")] {
            assert!(Routes::new(vec![route("GET", one, "f"), route("GET", other, "g")]).is_err(), "{one} {other}");
        }
    }
}
