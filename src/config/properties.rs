//! Java's properties format, as `server.properties` is written in.
//!
//! Owns: comments, separators (`=`, `:`, blank), continued lines, escapes, `\uXXXX`.
//! Invariant: input is bounded before it is parsed ([`MAX_BYTES`], [`MAX_KEYS`]).
//! Deliberately absent: meaning of keys; variables inside values (Kafka's config providers).
//! Source: the format's description at `java.util.Properties.load`.

/// Largest file that is read.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Most keys of a file.
pub const MAX_KEYS: usize = 1000;

/// Why bytes are not a properties file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More bytes or keys than a configuration has.
    #[error("larger than {MAX_BYTES} bytes or {MAX_KEYS} keys: not a configuration")]
    TooLarge,
    /// A NUL byte: this is no text.
    #[error("not a text file")]
    Binary,
    /// `\u` without four hexadecimal digits.
    #[error("line {line}: \\u needs four hexadecimal digits")]
    Escape {
        /// Line of the file, from 1.
        line: usize,
    },
}

/// Reads keys and values in the file's order; a key may appear twice, the last one counts.
///
/// # Errors
/// [`Malformed`].
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Malformed::TooLarge);
    }
    if bytes.contains(&0) {
        return Err(Malformed::Binary);
    }
    // Java reads ISO-8859-1; editors write UTF-8. UTF-8 wins where it is valid.
    let text = std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|&b| char::from(b)).collect(), str::to_owned);
    let mut pairs = Vec::new();
    for (line, logical) in logical_lines(&text) {
        if pairs.len() == MAX_KEYS {
            return Err(Malformed::TooLarge);
        }
        let (key, value) = split(&logical);
        let read = |part| unescape(part).ok_or(Malformed::Escape { line });
        pairs.push((read(key)?, read(value)?));
    }
    Ok(pairs)
}

/// Lines with their continuations joined, comments and empty ones dropped, each with its number.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, natural) in text.lines().enumerate() {
        let natural = natural.trim_start_matches(BLANKS);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let bars = natural.chars().rev().take_while(|&c| c == '\\').count();
        let goes_on = bars % 2 == 1;
        let part = if goes_on { natural.strip_suffix('\\').unwrap_or(natural) } else { natural };
        let (line, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        whole.push_str(part);
        if goes_on {
            open = Some((line, whole));
        } else {
            found.push((line, whole));
        }
    }
    found.extend(open.filter(|(_, whole)| !whole.is_empty()));
    found
}

/// Splits at the first separator that is not escaped: blanks, at most one `=` or `:`, blanks.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (BLANKS.contains(&c) || c == '=' || c == ':');
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANKS))
}

fn unescape(text: &str) -> Option<String> {
    let mut units = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = if c == '\\' { chars.next().unwrap_or('\\') } else { c };
        let unit = match plain {
            _ if c != '\\' => plain,
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'f' => '\u{c}',
            'u' => {
                let digits: String = chars.by_ref().take(4).collect();
                let whole = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| whole)?);
                continue;
            }
            other => other,
        };
        units.extend_from_slice(unit.encode_utf16(&mut buffer));
    }
    Some(String::from_utf16_lossy(&units))
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn all_three_separators_and_both_comment_signs_are_read() {
        let text = "# no\n! no\n\na=1\nb: 2\nc 3\n  d = 4\ne\nf==5\r\ng\\:h=6\n";
        assert_eq!(
            read(text),
            pairs(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", ""), ("f", "=5"), ("g:h", "6")])
        );
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines_and_two_do_not() {
        let text = "a=1,\\\n    2,\\\n\t3\nb=x\\\\\nc=#4\nd=1\\\n# part of it\n";
        assert_eq!(read(text), pairs(&[("a", "1,2,3"), ("b", "x\\"), ("c", "#4"), ("d", "1# part of it")]));
    }

    #[test]
    fn escapes_are_read_surrogate_pairs_included() {
        let text = "a=\\u0041\\t\\q\\=\nb=\\ud83d\\ude00\n";
        assert_eq!(read(text), pairs(&[("a", "A\tq="), ("b", "😀")]));
    }

    #[test]
    fn latin_1_is_read_when_the_file_is_not_utf_8() {
        assert_eq!(parse(b"a=\xe9").unwrap(), pairs(&[("a", "é")]));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert_eq!(parse(b"a=\\u12"), Err(Malformed::Escape { line: 1 }));
        assert_eq!(parse(b"a=1\nb=\\u00+1"), Err(Malformed::Escape { line: 2 }));
        assert_eq!(parse(b"\x7fELF\0\0"), Err(Malformed::Binary));
        assert_eq!(parse("k\n".repeat(MAX_KEYS + 1).as_bytes()), Err(Malformed::TooLarge));
        assert_eq!(parse(&vec![b'\n'; 1024 * 1024 + 1]), Err(Malformed::TooLarge));
    }
}
