//! Which satellite a row is of, however its product spells it, and what follows from that: the source id [S1], and what the
//! columns of temperature mean.

use super::super::find;
use super::table::shorten;
use crate::error::{Reason, Reject};
use crate::record::{Quality, SourceId};

/// What measured a row; it decides what a column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instrument {
    Viirs,
    Modis,
    /// OLI and TIRS of Landsat: no temperatures.
    Landsat,
}

impl Instrument {
    pub(super) fn named(text: &[u8]) -> Option<Instrument> {
        // As FIRMS writes it, in nearly every row.
        if text == b"VIIRS" {
            return Some(Instrument::Viirs);
        }
        let has = |name: &[u8]| text.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
        if has(b"VIIRS") {
            Some(Instrument::Viirs)
        } else if has(b"MODIS") {
            Some(Instrument::Modis)
        } else {
            None
        }
    }
}

/// One of the satellites that FIRMS serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Satellite {
    /// As records name it.
    pub(super) name: &'static str,
    pub(super) instrument: Instrument,
    id: &'static str,
}

const fn known(name: &'static str, instrument: Instrument, id: &'static str) -> Satellite {
    Satellite { name, instrument, id }
}

fn satellite(text: &[u8]) -> Option<Satellite> {
    let mut plain = [0; 12];
    let mut length = 0;
    // A number that a spreadsheet made a fraction of.
    let text = text.strip_suffix(b".0").unwrap_or(text);
    for byte in text.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        *plain.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    match &plain[..length] {
        b"n" | b"npp" | b"snpp" | b"suominpp" => Some(known("N", Instrument::Viirs, "firms_viirs_snpp")),
        b"n20" | b"1" | b"j1" | b"jpss1" | b"noaa20" => Some(known("N20", Instrument::Viirs, "firms_viirs_noaa20")),
        b"n21" | b"2" | b"j2" | b"jpss2" | b"noaa21" => Some(known("N21", Instrument::Viirs, "firms_viirs_noaa21")),
        b"t" | b"terra" => Some(known("Terra", Instrument::Modis, "firms_modis_terra")),
        b"a" | b"aqua" => Some(known("Aqua", Instrument::Modis, "firms_modis_aqua")),
        b"l8" | b"landsat8" => Some(known("L8", Instrument::Landsat, "landsat_nrt")),
        b"l9" | b"landsat9" => Some(known("L9", Instrument::Landsat, "landsat_nrt")),
        _ => None,
    }
}

/// Satellite and source id of the rows of one body; neighbouring rows share their satellite.
pub(super) struct Satellites<'a> {
    stream: &'a SourceId,
    /// A bulk archive is published as one source of its own, whatever satellites it holds [S6, P2].
    archive: bool,
    /// The stream is one of this provider's, and stands for a row whose satellite says nothing.
    own: bool,
    last: Option<(&'a [u8], Satellite, SourceId)>,
}

impl<'a> Satellites<'a> {
    pub(super) fn new(stream: &'a SourceId) -> Satellites<'a> {
        let archive = stream.as_str().starts_with("historical_");
        let own = find(stream).is_some_and(|(source, _)| std::ptr::eq(source, &super::SOURCE));
        Satellites { stream, archive, own, last: None }
    }

    /// # Errors
    /// `missing_field` when neither the row nor the stream says which source it is.
    pub(super) fn of_row(
        &mut self,
        text: &'a [u8],
        quality: &mut Vec<Quality>,
    ) -> Result<(Option<Satellite>, SourceId), Reject> {
        if let Some((known, satellite, source)) = &self.last
            && *known == text
        {
            return Ok((Some(*satellite), source.clone()));
        }
        let known = satellite(text);
        if let Some(satellite) = known {
            let own = SourceId::new(satellite.id).map_err(|e| Reject::new(Reason::MissingField, e.to_string()))?;
            let source = if self.archive { self.stream.clone() } else { own };
            self.last = Some((text, satellite, source.clone()));
            return Ok((known, source));
        }
        if !self.own {
            let id = self.stream.as_str();
            let detail = format!("satellite {:?} is not known, and {id} is not a FIRMS source", shorten(text));
            return Err(Reject::new(Reason::MissingField, detail));
        }
        if !text.is_empty() {
            let text = String::from_utf8_lossy(text);
            quality.push(Quality::new("satellite", "not a known satellite: the stream's source is kept", &text));
        }
        Ok((None, self.stream.clone()))
    }
}
