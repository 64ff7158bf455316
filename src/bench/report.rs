//! One scenario's result as one line of JSON.
//!
//! Invariant: a line is one flat object whose keys keep the order in which they were added; a number
//! that is not finite is null. Deliberately absent: nesting, and any reading of JSON.

use std::fmt::Write;

use super::histogram::Histogram;
use super::process::Usage;

/// A JSON object under construction.
#[derive(Debug)]
pub(super) struct Line(String);

impl Line {
    /// `{"scenario":name`.
    pub(super) fn new(scenario: &str) -> Self {
        let mut line = Self(String::from("{"));
        line.text("scenario", scenario);
        line
    }

    pub(super) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        quote(&mut self.0, value);
        self
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    pub(super) fn integer(&mut self, key: &str, value: impl TryInto<i64>) -> &mut Self {
        self.key(key);
        let _ = write!(self.0, "{}", value.try_into().unwrap_or(i64::MAX));
        self
    }

    /// A number with four significant digits at least.
    pub(super) fn number(&mut self, key: &str, value: f64) -> &mut Self {
        self.key(key);
        if !value.is_finite() {
            self.0.push_str("null");
        } else if value.abs() >= 1000.0 {
            let _ = write!(self.0, "{value:.0}");
        } else if value.abs() >= 1.0 {
            let _ = write!(self.0, "{value:.3}");
        } else {
            let _ = write!(self.0, "{value:.6}");
        }
        self
    }

    /// p50, p90, p99, p99.9 and max in ms; nothing when no sample was taken.
    pub(super) fn latency(&mut self, histogram: &Histogram) -> &mut Self {
        if histogram.count() > 0 {
            for (key, quantile) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
                self.number(key, histogram.quantile_ms(quantile));
            }
            self.number("max_ms", histogram.max_ms());
        }
        self
    }

    /// What the broker's process used: CPU seconds, resident memory before and after.
    pub(super) fn usage(&mut self, usage: Option<(Usage, Usage)>) -> &mut Self {
        if let Some((before, after)) = usage {
            self.number("cpu_s", after.cpu_s - before.cpu_s);
            self.number("rss_before_mb", before.rss_mb).number("rss_after_mb", after.rss_mb);
        }
        self
    }

    /// The finished object, without a line end.
    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        quote(&mut self.0, key);
        self.0.push(':');
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_flat_object_in_the_order_of_its_fields() {
        let mut line = Line::new("produce");
        line.text("codec", "a\"b\\c\n").integer("depth", 5usize).flag("verified", true);
        line.number("mb_per_s", 1234.5).number("cpu", 0.25).number("none", f64::NAN);
        assert_eq!(
            line.finish(),
            "{\"scenario\":\"produce\",\"codec\":\"a\\\"b\\\\c\\u000a\",\"depth\":5,\"verified\":true,\
             \"mb_per_s\":1234,\"cpu\":0.250000,\"none\":null}"
        );
    }

    #[test]
    fn latency_is_left_out_when_nothing_was_timed() {
        let mut line = Line::new("x");
        line.latency(&Histogram::new());
        assert_eq!(line.finish(), "{\"scenario\":\"x\"}");
    }
}
