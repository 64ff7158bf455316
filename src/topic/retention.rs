//! Which segments have to go, by time and by bytes: pure decisions over a list of segments.
//!
//! As in Kafka, time counts from a segment's largest record timestamp (the client's, unless the topic uses
//! log-append time), and only whole segments go. The active segment is sealed first when all of it is due.
//! A time that is still to come tells nothing of an age (a producer that sends microseconds, a clock that was wrong): such a
//! segment is as old as the next one of which that is known. In Apache Kafka it stays for ever, and what follows it, too.
//! Deliberately absent: I/O; compaction.

use super::TopicConfig;
use crate::store::Segment;

/// Whether the active segment is due as a whole and must be sealed before it can go: by time, or because nothing may
/// stay.
pub(super) fn must_seal(config: &TopicConfig, segments: &[Segment], now_ms: i64) -> bool {
    let keeps_nothing = config.cleanup_policy.delete && config.retention_bytes == 0;
    segments.last().is_some_and(|active| {
        // What came last may be new: it is as old as what comes next.
        !active.sealed
            && active.bytes > 0
            && (keeps_nothing || is_expired(config, active, active.opened_ms, now_ms))
    })
}

/// The offset below which everything goes, if anything does.
pub(super) fn cut(config: &TopicConfig, segments: &[Segment], now_ms: i64) -> Option<i64> {
    if !config.cleanup_policy.delete {
        return None;
    }
    let mut total: u64 = segments.iter().map(|s| s.bytes).sum();
    let limit = u64::try_from(config.retention_bytes).ok();
    let mut cut = None;
    for (segment, followed_ms) in
        segments.iter().zip(followed_ms(segments)).filter(|(segment, _)| segment.sealed)
    {
        let rest = total.saturating_sub(segment.bytes);
        let too_many = limit.is_some_and(|limit| rest >= limit);
        if !too_many && !is_expired(config, segment, followed_ms, now_ms) {
            break;
        }
        total = rest;
        cut = Some(segment.next_offset);
    }
    cut
}

/// For each segment when the next one began of which that is known; -1 where there is none.
fn followed_ms(segments: &[Segment]) -> Vec<i64> {
    let mut next_ms = -1;
    let mut followed: Vec<_> = segments
        .iter()
        .rev()
        .map(|segment| {
            let known_ms = if segment.opened_ms >= 0 { segment.opened_ms } else { next_ms };
            std::mem::replace(&mut next_ms, known_ms)
        })
        .collect();
    followed.reverse();
    followed
}

/// `instead_ms` counts where the records' own time is still to come; -1 where nobody knows.
fn is_expired(config: &TopicConfig, segment: &Segment, instead_ms: i64, now_ms: i64) -> bool {
    if config.retention_ms < 0 || !config.cleanup_policy.delete {
        return false;
    }
    let newest = match segment.max_timestamp {
        // A batch without timestamps (-1) ages from the segment's own birth.
        ..0 => segment.opened_ms,
        newest if newest > now_ms => instead_ms,
        newest => newest,
    };
    newest >= 0 && now_ms.saturating_sub(newest) > config.retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: i64, bytes: u64, max_timestamp: i64, sealed: bool) -> Segment {
        Segment { base_offset: base, next_offset: base + 10, bytes, max_timestamp, opened_ms: 0, sealed }
    }

    fn config(retention_ms: i64, retention_bytes: i64) -> TopicConfig {
        TopicConfig { retention_ms, retention_bytes, ..TopicConfig::default() }
    }

    #[test]
    fn only_the_oldest_expired_segments_go() {
        let parts = [segment(0, 5, 100, true), segment(10, 5, 900, true), segment(20, 5, 100, true)];
        assert_eq!(cut(&config(500, -1), &parts, 1000), Some(10));
        assert_eq!(cut(&config(-1, -1), &parts, 1000), None);
        assert_eq!(cut(&config(50, -1), &parts, 1000), Some(30));
    }

    #[test]
    fn a_time_that_is_still_to_come_does_not_keep_a_segment() {
        let opened = |opened_ms, part: Segment| Segment { opened_ms, ..part };
        let parts = [
            opened(100, segment(0, 5, 9_000_000, true)),
            opened(300, segment(10, 5, 310, true)),
            opened(700, segment(20, 5, 9_000_000, false)),
        ];
        assert_eq!(cut(&config(500, -1), &parts, 800), None, "the next one began 500 ms ago");
        assert_eq!(cut(&config(500, -1), &parts, 801), Some(10));
        assert_eq!(cut(&config(500, -1), &parts, 811), Some(20));
        assert!(!must_seal(&config(500, -1), &parts, 1200));
        assert!(must_seal(&config(500, -1), &parts, 1201));
        let sealed = [Segment { sealed: true, ..parts[2] }];
        assert_eq!(cut(&config(500, -1), &sealed, 5000), None, "nothing follows it yet");
        let unknown = [parts[0], Segment { opened_ms: -1, ..parts[1] }];
        assert_eq!(cut(&config(500, -1), &unknown, 5000), None);
        let further = [parts[0], Segment { opened_ms: -1, ..parts[1] }, parts[2]];
        assert_eq!(cut(&config(500, -1), &further, 1200), None, "the one after the next began 500 ms ago");
        assert_eq!(cut(&config(500, -1), &further, 1201), Some(20));
        assert_eq!(cut(&config(500, -1), &parts, -1_000_000), None, "a clock that is wrong takes nothing");
    }

    #[test]
    fn bytes_keep_at_least_the_limit() {
        let parts = [segment(0, 5, 0, true), segment(10, 5, 0, true), segment(20, 5, 0, false)];
        assert_eq!(cut(&config(-1, 10), &parts, 0), Some(10));
        assert_eq!(cut(&config(-1, 11), &parts, 0), None);
        assert_eq!(cut(&config(-1, 0), &parts, 0), Some(20));
    }

    #[test]
    fn the_active_segment_is_sealed_when_all_of_it_is_due() {
        let parts = [segment(0, 5, 100, false)];
        assert!(must_seal(&config(500, -1), &parts, 1000));
        assert!(!must_seal(&config(5000, -1), &parts, 1000));
        assert!(!must_seal(&config(500, -1), &[segment(0, 0, -1, false)], 1000));
    }

    /// As Apache Kafka: every look at retention removes all that is there.
    #[test]
    fn a_limit_of_0_bytes_keeps_nothing_not_even_the_active_segment() {
        let mut parts = [segment(0, 5, 0, true), segment(10, 5, 0, false)];
        assert!(must_seal(&config(-1, 0), &parts, 0));
        parts[1].sealed = true;
        assert_eq!(cut(&config(-1, 0), &parts, 0), Some(20));
        assert!(!must_seal(&config(-1, 1), &[segment(0, 5, 0, false)], 0));
        assert!(!must_seal(&config(-1, -1), &[segment(0, 5, 0, false)], 0));
    }
}
