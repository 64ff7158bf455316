//! Zigzag varints as the record format writes them: 7 bits per byte, least significant first.
//!
//! Invariant: a reader takes at most 5 (32-bit) or 10 (64-bit) bytes and refuses what does not fit the
//! type. Encodings longer than needed but inside those bounds are taken, as Kafka's ByteUtils takes them.

/// Reads a 32-bit zigzag varint off the front of `rest`; `None` when cut short or too large.
#[inline(always)]
pub(super) fn take_i32(rest: &mut &[u8]) -> Option<i32> {
    let raw = match **rest {
        [a, ref tail @ ..] if a < 0x80 => {
            *rest = tail;
            u32::from(a)
        }
        [a, b, ref tail @ ..] if b < 0x80 => {
            *rest = tail;
            u32::from(a & 0x7f) | u32::from(b) << 7
        }
        _ => u32::try_from(take_long(rest, 5)?).ok()?,
    };
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a 64-bit zigzag varint off the front of `rest`; `None` when cut short or too large.
#[inline(always)]
pub(super) fn take_i64(rest: &mut &[u8]) -> Option<i64> {
    let raw = match **rest {
        [a, ref tail @ ..] if a < 0x80 => {
            *rest = tail;
            u64::from(a)
        }
        [a, b, ref tail @ ..] if b < 0x80 => {
            *rest = tail;
            u64::from(a & 0x7f) | u64::from(b) << 7
        }
        _ => take_long(rest, 10)?,
    };
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// The uncommon lengths, kept out of line so that the walk stays small.
#[cold]
#[inline(never)]
fn take_long(rest: &mut &[u8], max_bytes: usize) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().take(max_bytes).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *rest = rest.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Appends `value` as a zigzag varint; a 32-bit value takes the same bytes when widened.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push((raw & 0x7f) as u8);
}

/// Bytes that [`put`] takes for `value`.
pub(super) fn length(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_both_widths_come_back() {
        for value in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::from(i32::MIN)] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(bytes.len(), length(value), "{value}");
            let mut rest = bytes.as_slice();
            assert_eq!(take_i32(&mut rest).map(i64::from), Some(value));
            assert!(rest.is_empty());
        }
        for value in [i64::MIN, i64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!((bytes.len(), length(value)), (10, 10));
            assert_eq!(take_i64(&mut bytes.as_slice()), Some(value));
        }
    }

    #[test]
    fn what_does_not_fit_the_type_is_refused() {
        for bytes in [&[][..], &[0x80], &[0x80, 0x80], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            assert_eq!(take_i32(&mut &bytes[..]), None, "{bytes:?}");
        }
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        assert_eq!(take_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..]), None);
    }
}
