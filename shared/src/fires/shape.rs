//! Distances on a plane that touches the sphere where they are: off by less than 1 % over a fire's width.

/// Kilometres of one degree of latitude, mean sphere.
const KM_PER_DEGREE: f64 = 111.195;

/// Latitude and longitude in degrees.
pub(super) type At = [f64; 2];

/// Kilometres between two places some hundred kilometres apart at most.
pub(super) fn distance_km(a: At, b: At) -> f64 {
    let [x, y] = Plane::at(a).km(b);
    x.hypot(y)
}

struct Plane {
    origin: At,
    shrink: f64,
}

impl Plane {
    fn at(origin: At) -> Plane {
        Plane { origin, shrink: origin[0].to_radians().cos() }
    }

    fn km(&self, [latitude, longitude]: At) -> At {
        [(longitude - self.origin[1]) * self.shrink * KM_PER_DEGREE, (latitude - self.origin[0]) * KM_PER_DEGREE]
    }
}
