//! Values with a checksum over all that they stand for: what the disk damaged is never taken for what was written [Q1].

/// Bytes of the CRC-32C, little endian, before the value itself.
const SUM: usize = 4;

/// `parts`: what the row says beside its value, such as its key; damaged there, it would be another row's value.
pub(crate) fn seal(parts: &[&[u8]], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SUM + value.len());
    sealed.extend_from_slice(&sum(parts, value));
    sealed.extend_from_slice(value);
    sealed
}

/// The value; `None` when the row is not what was sealed.
pub(crate) fn open<'a>(parts: &[&[u8]], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (head, value) = sealed.split_at_checked(SUM)?;
    (head == sum(parts, value)).then_some(value)
}

/// The value as it is on disk, whether or not it is sound.
pub(crate) fn unchecked(sealed: &[u8]) -> &[u8] {
    sealed.get(SUM..).unwrap_or_default()
}

fn sum(parts: &[&[u8]], value: &[u8]) -> [u8; SUM] {
    // A part's end counts: "ab" and "c" are not "a" and "bc".
    let beside = parts.iter().fold(0, |sum, part| {
        crc32c::crc32c_append(crc32c::crc32c_append(sum, part), &(part.len() as u64).to_le_bytes())
    });
    crc32c::crc32c_append(beside, value).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q1_a_flipped_bit_in_value_sum_or_what_stands_beside_is_known() {
        let parts: [&[u8]; 2] = [b"connectors", b"butte"];
        let sealed = seal(&parts, b"value");
        assert_eq!(open(&parts, &sealed), Some(&b"value"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&parts, &damaged), None, "bit {bit}");
        }
        for other in [[&b"connectors"[..], b"buttf"], [b"connectorsb", b"utte"]] {
            assert_eq!(open(&other, &sealed), None);
        }
        assert_eq!(open(&parts, &sealed[..2]), None);
    }
}
