//! Sequence numbers: AWS's version-2 shape with the offset inside, so that decoding one is arithmetic.
//!
//! 188 bits, printed as a decimal: `2`, the shard's creation second (36 bits), the low digit of the shard's id (4),
//! the offset plus one (64), the stream's mark (7), whether the place is after that offset (1), the record's second (36),
//! the shard's id (32), the version `2` (4).
//! Source of the shape: kinesalite db/index.js. Order within a shard is the offset's, a clock that steps back
//! changes nothing; children are created after their parents, so their numbers are larger.
//! The mark tells streams apart that had the same name within a second; older numbers have 0 there, which is any stream.
//! A place after an offset stands between that record's number and the next one's: a reader that was told it may go on
//! at it or after it, and meets neither a record twice nor a gap.
//! A shard starts with the number before its first record, which a reader may go on after; 2^63-1 ends a closed one.

use uuid::Uuid;

/// Decimal digits of three limbs; a number has 56.
const DIGITS: usize = 57;
/// Base of a limb: the largest power of ten in a `u64`.
const BASE: u128 = 10_000_000_000_000_000_000;
/// 2^80 and 2^144 in limbs, least first: where the offset and what stands above it begin.
const AT_80: [u128; 3] = limbs_of(1 << 80, 0);
const AT_144: [u128; 3] = limbs_of(0, 1 << 16);

/// The offset of the number that ends a closed shard.
const END: i64 = i64::MAX - 1;
/// Marks of streams.
const MARK_MAX: u32 = 127;
/// Largest second that fits.
const SECOND_MAX: i64 = (1 << 36) - 1;

/// What a sequence number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Creation second of the shard.
    pub(super) created_s: i64,
    /// Id of the shard.
    pub(super) shard: u32,
    /// From -1, the place before the first record.
    pub(super) offset: i64,
    /// The record's time, seconds.
    pub(super) second: i64,
    /// Of the stream's: see [`mark_of`].
    pub(super) mark: u8,
    /// The place after the offset, not the record there.
    pub(super) after: bool,
}

/// What numbers carry of the stream that they belong to, 1 to 127.
pub(super) fn mark_of(topic: Uuid) -> u8 {
    let sum = topic.as_bytes().iter().fold(0u32, |sum, byte| sum.wrapping_mul(257) + u32::from(*byte));
    u8::try_from(sum % MARK_MAX).unwrap_or_default() + 1
}

/// A number in decimal, without allocation.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    text: [u8; DIGITS],
    from: usize,
}

impl Digits {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.text.get(self.from..).unwrap_or_default()).unwrap_or_default()
    }
}

impl Sequence {
    /// The number that ends a shard that was closed at this second.
    pub(super) fn end(created_s: i64, shard: u32, second: i64, mark: u8) -> Self {
        Self { created_s, shard, offset: END, second, mark, after: false }
    }

    pub(super) fn is_end(self) -> bool {
        self.offset == END
    }

    pub(super) fn digits(self) -> Digits {
        let second = |s: i64| s.clamp(0, SECOND_MAX) as u128;
        let head = (2 << 40) | (second(self.created_s) << 4) | u128::from(self.shard & 15);
        let flags = (u128::from(self.mark & 127) << 1) | u128::from(self.after);
        let tail = (flags << 72) | (second(self.second) << 36) | (u128::from(self.shard) << 4) | 2;
        let offset = self.offset.max(-1).saturating_add(1) as u128;
        let mut text = [b'0'; DIGITS];
        let mut carry = tail;
        let mut end = DIGITS;
        for (high, low) in AT_144.iter().zip(&AT_80) {
            // Below 2^44 · 2^64 + 2^63 · 2^64 + 2^81: no overflow.
            let sum = head * high + offset * low + carry;
            carry = sum / BASE;
            let start = end.saturating_sub(19);
            put_decimal(text.get_mut(start..end).unwrap_or_default(), sum % BASE);
            end = start;
        }
        let from = text.iter().position(|digit| *digit != b'0').unwrap_or(DIGITS - 1);
        Digits { text, from }
    }

    /// What a number of ours says; nothing for any other number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > DIGITS {
            return None;
        }
        // 188 bits in two halves: (high · 2^96 + low).
        let (mut high, mut low) = (0u128, 0u128);
        for digit in text.bytes() {
            let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
            low = low * 10 + u128::from(digit);
            high = high * 10 + (low >> 96);
            low &= (1 << 96) - 1;
        }
        let bits = |from: u32, count: u32| -> u128 {
            let value = if from >= 96 {
                high >> (from - 96)
            } else {
                (low >> from) | (high.checked_shl(96 - from).unwrap_or(0))
            };
            value & ((1 << count) - 1)
        };
        if high >> (188 - 96) != 0 || bits(184, 4) != 2 || bits(0, 4) != 2 {
            return None;
        }
        let shard = u32::try_from(bits(4, 32)).ok()?;
        let offset = i64::try_from(bits(80, 64)).ok()?;
        (bits(144, 4) == u128::from(shard & 15)).then_some(Self {
            created_s: i64::try_from(bits(148, 36)).ok()?,
            shard,
            offset: offset - 1,
            second: i64::try_from(bits(36, 36)).ok()?,
            mark: u8::try_from(bits(73, 7)).ok()?,
            after: bits(72, 1) == 1,
        })
    }
}

/// `low + high · 2^128` in limbs.
const fn limbs_of(low: u128, high: u128) -> [u128; 3] {
    // Bit by bit from the top: doubling needs no division of 256 bits.
    let mut limbs = [0; 3];
    let mut bit = 256;
    while bit > 0 {
        bit -= 1;
        let set = if bit >= 128 { (high >> (bit - 128)) & 1 } else { (low >> bit) & 1 };
        let mut carry = set;
        let mut at = 0;
        #[allow(clippy::indexing_slicing, reason = "at compile time a bad index stops the build")]
        while at < 3 {
            let sum = limbs[at] * 2 + carry;
            limbs[at] = sum % BASE;
            carry = sum / BASE;
            at += 1;
        }
    }
    limbs
}

fn put_decimal(out: &mut [u8], value: u128) {
    let mut value = u64::try_from(value).unwrap_or(u64::MAX);
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(created_s: i64, shard: u32, offset: i64, second: i64) -> Sequence {
        Sequence { created_s, shard, offset, second, mark: 0, after: false }
    }

    #[test]
    fn it_prints_what_the_bits_say() {
        // int("2" "065920f80" "3" "0000000000000001" "00" "065920f8a" "00000003" "2", 16)
        let digits = sequence(0x6592_0f80, 3, 0, 0x6592_0f8a).digits();
        assert_eq!(digits.as_str(), EXPECTED);
        assert_eq!(digits.as_str().len(), 56);
    }

    const EXPECTED: &str = "49647890172787107070241014156380012424672754719938052146";

    #[test]
    fn what_is_no_number_of_ours_is_refused() {
        for text in [
            "",
            "0",
            "1",
            "x",
            "-1",
            "49613478901234567890123456789012345678901234567890123456",
            &"9".repeat(57),
            &"1".repeat(129),
        ] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_end_is_above_every_offset_and_below_the_children() {
        let key = |s: Sequence| (s.digits().as_str().len(), s.digits().as_str().to_owned());
        let last = sequence(1_700_000_000, 0, END - 1, 1_800_000_000);
        let end = Sequence::end(1_700_000_000, 0, 1_700_000_001, 127);
        let child = sequence(1_700_000_001, 1, 0, 1_700_000_001);
        assert!(key(last) < key(end) && key(end) < key(child));
        assert!(Sequence::parse(end.digits().as_str()).unwrap().is_end());
    }

    proptest! {
        #[test]
        fn parsing_undoes_printing(created_s in 0..=SECOND_MAX, shard: u32, offset in -1..=END, second in 0..=SECOND_MAX, mark in 0..128u8, after: bool) {
            let made = Sequence { mark, after, ..sequence(created_s, shard, offset, second) };
            prop_assert_eq!(Sequence::parse(made.digits().as_str()), Some(made));
        }

        #[test]
        fn a_later_offset_is_a_larger_number(shard: u32, a in -1..END, second in 0..=SECOND_MAX, later in 0..=SECOND_MAX, mark in 0..128u8) {
            let one = Sequence { mark, ..sequence(1_700_000_000, shard, a, second) };
            let next = Sequence { offset: a + 1, second: later, ..one };
            let key = |s: Sequence| (s.digits().as_str().len(), s.digits().as_str().to_owned());
            let between = key(Sequence { after: true, ..one });
            prop_assert!(key(one) < between && between < key(next));
        }
    }
}
