//! Where a record is.

use serde::{Deserialize, Serialize};

use crate::error::{Reason, Reject};
use crate::record::ids::hex_digit;

/// A point on Earth in degrees (WGS 84), in range by construction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    latitude: f64,
    longitude: f64,
}

impl Position {
    /// Refuses a latitude outside ±90 and a longitude outside ±180; NaN and infinities too [S9].
    pub fn new(latitude: f64, longitude: f64) -> Result<Position, Reject> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(Reject::new(Reason::BadLatitude, format!("latitude {latitude} is not in -90..90")));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(Reject::new(Reason::BadLongitude, format!("longitude {longitude} is not in -180..180")));
        }
        // -0 is 0: one place is written in one way.
        Ok(Position { latitude: latitude + 0.0, longitude: longitude + 0.0 })
    }

    /// Degrees north of the equator, negative to the south.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich, negative to the west.
    pub fn longitude(self) -> f64 {
        self.longitude
    }
}

/// Where a record stands against California's border; near is within 25 miles outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // said above; a schema lists them by their names alone
pub enum California {
    Inside,
    Near,
    Outside,
}

/// A position with what is derived from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The point itself.
    pub position: Position,
    /// H3 cell of resolution 5 [K3].
    pub h3: h3o::CellIndex,
    /// Where the point stands against California's border.
    pub california: California,
}

impl Place {
    /// The cell as keys and values name it.
    pub fn cell(&self) -> Cell {
        let number = u64::from(self.h3);
        // The first four of its 64 bits are 0.
        Cell(std::array::from_fn(|n| hex_digit((number >> (4 * (14 - n))) as u8 & 15)))
    }
}

/// The name of an H3 cell: 15 lower-case hex digits [K3].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell([u8; 15]);

impl Cell {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The shape of a record: a point, or GeoJSON text of any other valid geometry.
#[derive(Debug, Clone, PartialEq)]
pub enum Geometry {
    /// A point, published as GeoJSON with the longitude first.
    Point(Position),
    /// The text of any other geometry, as GeoJSON [S8].
    GeoJson(String),
}
