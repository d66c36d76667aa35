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

/// All routes, matched by the router that axum is built on.
pub(crate) struct Routes(matchit::Router<Vec<Route>>);

impl Routes {
    /// # Errors
    /// For paths that the template cannot tell apart.
    pub(crate) fn new(routes: Vec<Route>) -> Result<Routes, Failure> {
        let mut by_pattern = BTreeMap::<String, Vec<Route>>::new();
        for route in routes {
            by_pattern.entry(pattern(&route.path)).or_default().push(route);
        }
        let mut router = matchit::Router::new();
        for (pattern, routes) in by_pattern {
            let path = routes[0].path.clone();
            router.insert(pattern, routes).map_err(|e| Failure::new(format!("template: route {path}: {e}")))?;
        }
        Ok(Routes(router))
    }

    /// What a request's method and path lead to, with the parameters in its path.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<(&Route, BTreeMap<String, String>)> {
        let matched = self.0.at(path).ok()?;
        // The router takes `/streams//start` for a stream without a name.
        if matched.params.iter().any(|(_, value)| value.is_empty()) {
            return None;
        }
        let route = matched.value.iter().find(|route| route.method == method);
        let route = route.or_else(|| matched.value.iter().find(|route| route.method == "ANY"))?;
        let values = matched.params.iter().map(|(_, value)| value.to_owned());
        Some((route, parameters(&route.path).map(str::to_owned).zip(values).collect()))
    }
}

/// The names in `/streams/{id}` and `/files/{path+}`.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| name.trim_end_matches('+'))
}

/// The path in the router's words. Parameters are named by their place: routes may call the same one differently.
fn pattern(path: &str) -> String {
    let parts = path.split('/').enumerate().map(|(place, part)| match part.strip_prefix('{') {
        Some(name) if name.ends_with("+}") => format!("{{*p{place}}}"),
        Some(name) if name.ends_with('}') => format!("{{p{place}}}"),
        _ => part.replace('{', "{{").replace('}', "}}"),
    });
    parts.collect::<Vec<_>>().join("/")
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
    fn routes_that_cannot_be_told_apart_are_refused_and_nothing_panics() {
        for path in ["/a/{b+}/c", "/{", "/}", "/a{b}", "/{a}{b}", "/{}", "/{+}", "//", "/{a+}/{b+}"] {
            let _ = Routes::new(vec![route("GET", path, "f"), route("GET", "/a/{b}", "g")]);
        }
        let both = vec![route("GET", "/a/{b}", "f"), route("GET", "/a/{b+}", "g")];
        assert!(Routes::new(both).is_err());
    }
}
