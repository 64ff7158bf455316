//! Signed tokens: shard iterators and the places of paged lists. Nothing is kept for them.
//!
//! A token is its kind, the time it was issued, a count, what it says, and a MAC over all of it, in base64: a client can
//! neither make one nor change one, and no two are the same, so that a reader which compares them does not take the next
//! one for the last. It ages after 300 seconds.

use std::sync::atomic::{AtomicU32, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// How long a token is good.
pub(super) const AGE_MAX_MS: i64 = 300_000;
/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 1024;
/// Half of SHA-256 is enough for something that lives five minutes.
const MAC_BYTES: usize = 16;
/// Of the count that makes each one another.
const COUNT_BYTES: usize = 4;

/// A place in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Iterator {
    pub(super) topic: Uuid,
    pub(super) shard: u32,
    pub(super) offset: i64,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Iterator = 1,
    Shards = 2,
    Streams = 3,
    Consumers = 4,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not one of ours, or of another use.
    Forged,
    /// Older than [`AGE_MAX_MS`]; when it was issued, ms.
    Aged(i64),
}

/// Makes tokens and reads them.
pub(super) struct Tokens {
    keyed: Hmac<Sha256>,
    issued: AtomicU32,
}

impl Tokens {
    pub(super) fn new(key: [u8; 32]) -> Self {
        let mut block = [0; 64];
        block.iter_mut().zip(key).for_each(|(to, from)| *to = from);
        // A block of the hash's size is taken as it is; a shorter key is filled up to it with zeros.
        Self { keyed: Hmac::new(&block.into()), issued: AtomicU32::new(0) }
    }

    pub(super) fn issue(&self, purpose: Use, now_ms: i64, says: &[u8]) -> String {
        let mut bytes = vec![purpose as u8];
        bytes.extend_from_slice(&now_ms.to_be_bytes());
        bytes.extend_from_slice(&self.issued.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        bytes.extend_from_slice(says);
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac.iter().take(MAC_BYTES));
        base64_simd::STANDARD.encode_to_string(bytes)
    }

    /// What the token says.
    pub(super) fn read(&self, purpose: Use, now_ms: i64, token: &str) -> Result<Vec<u8>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Forged);
        }
        let bytes = base64_simd::STANDARD.decode_to_vec(token).map_err(|_| Refused::Forged)?;
        let end = bytes.len().checked_sub(MAC_BYTES).ok_or(Refused::Forged)?;
        let (signed, mac) = bytes.split_at_checked(end).ok_or(Refused::Forged)?;
        // Compares in constant time.
        self.mac(signed).verify_truncated_left(mac).map_err(|_| Refused::Forged)?;
        let (issued, says) = signed
            .split_first()
            .filter(|(first, _)| **first == purpose as u8)
            .and_then(|(_, rest)| rest.split_first_chunk())
            .ok_or(Refused::Forged)?;
        let (_, says) = says.split_first_chunk::<COUNT_BYTES>().ok_or(Refused::Forged)?;
        let issued = i64::from_be_bytes(*issued);
        if now_ms.saturating_sub(issued) > AGE_MAX_MS {
            Err(Refused::Aged(issued))
        } else {
            Ok(says.to_vec())
        }
    }

    pub(super) fn iterator(&self, now_ms: i64, place: Iterator) -> String {
        let says =
            [&place.topic.as_bytes()[..], &place.shard.to_be_bytes(), &place.offset.to_be_bytes()].concat();
        self.issue(Use::Iterator, now_ms, &says)
    }

    pub(super) fn read_iterator(&self, now_ms: i64, token: &str) -> Result<Iterator, Refused> {
        let says = self.read(Use::Iterator, now_ms, token)?;
        let read = || {
            let (topic, rest) = says.split_first_chunk()?;
            let (shard, rest) = rest.split_first_chunk()?;
            let (offset, []) = rest.split_first_chunk()? else { return None };
            Some(Iterator {
                topic: Uuid::from_bytes(*topic),
                shard: u32::from_be_bytes(*shard),
                offset: i64::from_be_bytes(*offset),
            })
        };
        read().ok_or(Refused::Forged)
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(bytes);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Iterator = Iterator { topic: Uuid::from_u128(7), shard: 3, offset: 42 };

    #[test]
    fn an_iterator_reads_back_until_it_is_too_old() {
        let tokens = Tokens::new([1; 32]);
        let token = tokens.iterator(1_000, PLACE);
        assert!(token.len() < 512);
        assert_ne!(tokens.iterator(1_000, PLACE), token);
        assert_eq!(tokens.read_iterator(301_000, &token), Ok(PLACE));
        assert_eq!(tokens.read_iterator(301_001, &token), Err(Refused::Aged(1_000)));
    }

    #[test]
    fn a_forged_or_foreign_token_is_refused() {
        let tokens = Tokens::new([1; 32]);
        let token = tokens.iterator(0, PLACE);
        assert_eq!(Tokens::new([2; 32]).read_iterator(0, &token), Err(Refused::Forged));
        assert_eq!(tokens.read(Use::Shards, 0, &token), Err(Refused::Forged));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(tokens.read_iterator(0, &changed), Err(Refused::Forged), "{at}");
        }
        for text in ["", "AAAA", "not base64!", &"A".repeat(1 << 20)] {
            assert_eq!(tokens.read_iterator(0, text), Err(Refused::Forged));
        }
    }
}
