//! The counties and zones that an alert names by code. A code tells its state, and no shape is made of it.

use super::Alert;
use crate::record::California;

/// Systems whose codes end with a state's FIPS code and a county's: `006023` with the part of the county in front, `06023` without.
/// `000000` is the whole country.
const FIPS: [&str; 3] = ["SAME", "FIPS6", "FIPS"];
/// Systems whose codes begin with the state's letters: `CAZ285`, `CAC023`; NWS's addresses have the kind in front, as in
/// `forecast/CAZ285`.
const UGC: [&str; 2] = ["UGC", "affectedZones"];

/// `Inside` when one of the areas is named by a code of California's. Of other codes nothing is known: a county of Nevada may be
/// near it.
pub(super) fn california(alert: &Alert) -> Option<California> {
    let areas = alert.info.iter().flat_map(|info| &info.area);
    let mut codes = areas.flat_map(|area| &area.geocode);
    let is_one_of = |systems: &[&str], name: &str| systems.iter().any(|system| system.eq_ignore_ascii_case(name));
    let is_inside = codes.any(|(system, codes)| {
        let mut codes = codes.iter().map(|code| code.trim());
        (is_one_of(&FIPS, system) && codes.clone().any(is_fips)) || (is_one_of(&UGC, system) && codes.any(is_ugc))
    });
    is_inside.then_some(California::Inside)
}

fn is_fips(code: &str) -> bool {
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let county = if code.len() == 6 { &code[1..] } else { code };
    code == "000000" || (county.len() == 5 && county.starts_with("06"))
}

fn is_ugc(code: &str) -> bool {
    let code = code.rsplit('/').next().unwrap_or_default();
    let number = code.strip_prefix("CAZ").or_else(|| code.strip_prefix("CAC"));
    number.is_some_and(|number| {
        number == "ALL" || (number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}
