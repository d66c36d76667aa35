//! The forecasts of a list of grid cells, polled from api.weather.gov [S2]. Points and lists of stations are not polled: they tell
//! no time of their own, and do not change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use crate::connect::feed::{Ask, Feed};
use crate::record::SourceId;
use crate::sources::config::check_list;
use crate::sources::{Services, WrongField, WrongFields, nws};

/// Cells of one stream, with three requests each at the most.
const CELLS: usize = 20;

/// What is forecast of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Document {
    /// A week by half days.
    Forecast,
    /// A week by hours.
    Hourly,
    /// Every layer of the raw grid, those for fires among them.
    Grid,
}

/// A forecast stream's `config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NwsForecastConfig")]
pub struct Config {
    /// The cells as `{office}/{x},{y}`, such as `MTR/90,105`; `/points/{latitude},{longitude}` tells a place's.
    pub cells: Vec<String>,
    /// What is asked for of each; all three if it is left out.
    #[serde(default = "all")]
    pub documents: Vec<Document>,
}

fn all() -> Vec<Document> {
    vec![Document::Forecast, Document::Hourly, Document::Grid]
}

impl Config {
    /// Requests of one poll.
    pub fn requests(&self) -> usize {
        self.cells.len() * self.documents.len()
    }

    /// What serde cannot judge.
    pub fn check(&self) -> Result<(), WrongFields> {
        let is_number = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_cell = |cell: &str| {
            let Some((office, (x, y))) =
                cell.split_once('/').and_then(|(office, at)| Some((office, at.split_once(',')?)))
            else {
                return false;
            };
            office.len() == 3 && office.bytes().all(|byte| byte.is_ascii_uppercase()) && is_number(x) && is_number(y)
        };
        let cells = check_list("cells", &self.cells, CELLS, "a cell, such as \"MTR/90,105\"", is_cell);
        let documents = &self.documents;
        let is_repeated = |(at, document): (usize, &Document)| documents[..at].contains(document);
        let documents = if documents.is_empty() || documents.iter().enumerate().any(is_repeated) {
            Err(WrongField::new("documents", "must be some of forecast, hourly and grid, each once"))
        } else {
            Ok(())
        };
        WrongFields::all([cells, documents])
    }
}

pub(in crate::sources) fn connector(config: Config, _: SourceId, services: &Services) -> Result<Feed, String> {
    let ask = |cell: &String, document: &Document| {
        let (behind, name) = match document {
            Document::Forecast => ("/forecast", "forecast"),
            Document::Hourly => ("/forecast/hourly", "hourly"),
            Document::Grid => ("", "grid"),
        };
        Ask { name: format!("{cell} {name}"), path: format!("/gridpoints/{cell}{behind}") }
    };
    let asks = config.cells.iter().flat_map(|cell| config.documents.iter().map(move |document| ask(cell, document)));
    Ok(nws::feed(services, asks.collect(), FORMAT))
}
