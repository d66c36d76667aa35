//! The shape of an answer, walked before it is decoded: the decoder reserves room for as many elements as an array claims to have, and
//! a few bytes can claim four thousand million.

/// An answer's body: from which version on lengths are varints, and its parts.
pub(super) struct Shape {
    pub(super) flexible: i16,
    pub(super) parts: &'static [(i16, Part)],
}

/// A part, behind the version that it came with.
pub(super) enum Part {
    /// So many bytes.
    Fixed(usize),
    Text,
    /// Elements of so many bytes.
    Numbers(usize),
    Structures(&'static [(i16, Part)]),
}

impl Shape {
    /// An answer without arrays: nothing is reserved for it.
    pub(super) const WITHOUT_ARRAYS: Shape = Shape { flexible: i16::MAX, parts: &[] };

    /// Whether the body holds all that its lengths claim.
    pub(super) fn fits(&self, version: i16, body: &[u8]) -> bool {
        let mut walk = Walk { left: body, version, is_flexible: version >= self.flexible };
        walk.structure(self.parts).is_some()
    }
}

struct Walk<'a> {
    left: &'a [u8],
    version: i16,
    is_flexible: bool,
}

impl<'a> Walk<'a> {
    fn structure(&mut self, parts: &[(i16, Part)]) -> Option<()> {
        let version = self.version;
        for (_, part) in parts.iter().filter(|(since, _)| *since <= version) {
            match part {
                Part::Fixed(bytes) => drop(self.take(*bytes)?),
                Part::Text => {
                    let bytes = self.length(2)?;
                    self.take(bytes)?;
                }
                Part::Numbers(bytes) => {
                    let elements = self.length(4)?;
                    self.take(elements.checked_mul(*bytes)?)?;
                }
                Part::Structures(parts) => {
                    for _ in 0..self.length(4)? {
                        self.structure(parts)?;
                    }
                }
            }
        }
        if self.is_flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let bytes = self.varint()?;
                self.take(bytes)?;
            }
        }
        Some(())
    }

    /// `fixed`: in how many bytes it stands where it is no varint. Null is as long as what is empty.
    fn length(&mut self, fixed: usize) -> Option<usize> {
        if self.is_flexible {
            return Some(self.varint()?.saturating_sub(1));
        }
        let bytes = self.take(fixed)?;
        let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let is_null = bytes.iter().all(|byte| *byte == 0xff);
        Some(if is_null { 0 } else { length })
    }

    fn varint(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(bytes)?;
        self.left = left;
        Some(taken)
    }
}
