//! The house itself: which room may know which, where third parties live, what no file may hold.
//!
//! Reads the source as text, so it needs no tool and no network. Each law is a plain function over one
//! file's path and text; the tests at the end run them over `src/` and, planted, over toy strings.
//! Deliberately absent: what clippy can see (`.clippy.toml`).

#![allow(clippy::indexing_slicing, reason = "a wrong index fails the test, as it should")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A leaf: what every room may import, and which imports nothing of ours.
const LEAVES: &[&str] = &["lock"];

/// A room and the rooms that it may import (ARCHITECTURE.md). Imports point down only.
const ROOMS: &[(&str, &[&str])] = &[
    ("batch", &[]),
    ("quota", &[]),
    ("bench", &["batch"]),
    ("group", &["batch"]),
    ("store", &["batch"]),
    ("topic", &["batch", "store", "quota"]),
    // Broker keys and topic keys share one notion of a value.
    ("config", &["topic"]),
    ("broker", &["batch", "store", "quota", "topic", "group", "config"]),
    // Beside the broker, not above it: a door joins what flows through it with what may be done.
    ("listen", &["config"]),
    ("kafka", &["batch", "topic", "group", "config", "broker", "listen"]),
    ("kinesis", &["batch", "quota", "topic", "config", "broker", "listen"]),
    ("admin", &["config", "broker", "listen"]),
    // Builds the house: the one place that knows the doors.
    ("server", &["store", "config", "broker", "listen", "kafka", "kinesis", "admin"]),
];

/// A name from outside and the only places (path prefixes) that may say it.
const QUARANTINE: &[(&str, &[&str])] = &[
    ("kafka_protocol", &["src/kafka/"]),
    ("memmap2", &["src/store/local/map.rs"]),
    ("redb", &["src/store/local/"]),
    ("socket2", &["src/listen/"]),
    ("crc32fast", &["src/batch/", "src/store/", "src/kinesis/"]),
    ("crc_fast", &["src/batch/", "src/store/local/", "src/bench/"]),
    ("axum", &["src/kinesis/", "src/admin/"]),
    ("hyper", &["src/kinesis/", "src/admin/"]),
    ("hyper_util", &["src/kinesis/", "src/admin/"]),
    ("base64_simd", &["src/kinesis/"]),
    ("hmac", &["src/kinesis/"]),
    ("md5", &["src/kinesis/"]),
    ("sha2", &["src/kinesis/"]),
    ("serde", &["src/admin/", "src/main/shard.rs"]),
    ("serde_json", &["src/admin/", "src/main/shard.rs", "src/main/health.rs"]),
    ("percent_encoding", &["src/admin/", "src/main/shard.rs"]),
    ("http", &["src/kinesis/", "src/admin/"]),
    ("clap", &["src/main.rs"]),
    ("clap_complete", &["src/main.rs"]),
    ("clap_mangen", &["src/main.rs"]),
    ("tikv_jemallocator", &["src/main.rs"]),
    ("tracing_subscriber", &["src/main.rs"]),
    ("SystemTime", &["src/broker/clock.rs"]),
    ("getrandom", &["src/broker/clock.rs"]),
];

/// A name that the pure rooms never say.
const PURE: &[(&str, &[&str])] = &[
    (
        "tokio",
        &["src/batch/", "src/quota/", "src/group/", "src/store/", "src/topic/", "src/bench/", "src/config"],
    ),
    ("TcpStream", &["src/batch/", "src/quota/", "src/group/", "src/store/", "src/topic/", "src/config"]),
    ("Instant", &["src/batch/", "src/quota/", "src/group/", "src/topic/"]),
];

/// Names of files that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc", "types"];

// --- laws, one function each ---------------------------------------------------------------------------

/// Rooms that a file imports and may not.
fn forbidden_imports(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(path) else { return Vec::new() };
    let leaf = LEAVES.iter().find(|name| **name == room).map(|name| (*name, &[][..]));
    let Some((_, allowed)) = ROOMS.iter().copied().chain(leaf).find(|(name, _)| *name == room) else {
        return vec![format!("{path}: there is no room {room}; add it to ROOMS and say what it may import")];
    };
    let rooms: BTreeSet<_> = ROOMS.iter().map(|(name, _)| *name).collect();
    imported_rooms(path, text)
        .into_iter()
        .filter(|target| {
            rooms.contains(target.as_str()) && *target != room && !allowed.contains(&target.as_str())
        })
        .map(|target| format!("{path}: {room} must not import {target}"))
        .collect()
}

/// Third parties outside their place.
fn escaped_third_parties(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let lives_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let escaped = QUARANTINE
        .iter()
        .filter(|(name, places)| !lives_in(places) && has_word(&code, name))
        .map(|(name, places)| format!("{path}: {name} only in {}", places.join(", ")));
    let impure = PURE
        .iter()
        .filter(|(name, places)| lives_in(places) && has_word(&code, name))
        .map(|(name, _)| format!("{path}: this room must not know {name}"));
    escaped.chain(impure).collect()
}

/// Locks without a rank, outside the file that ranks them. Tests may, and what locks across an await is tokio's.
fn unranked_locks(path: &str, text: &str) -> Vec<String> {
    if path == "src/lock.rs" || path.starts_with("src/lock/") || path.ends_with("tests.rs") {
        return Vec::new();
    }
    let code = code_of(text);
    let code = code.split("mod tests {").next().unwrap_or_default();
    let all: Vec<_> = words(code).map(|(word, _)| word).collect();
    let mut found = Vec::new();
    let std_sync = |at: usize| at >= 2 && all[at - 2..at] == ["std", "sync"];
    for name in ["Mutex", "MutexGuard", "RwLock", "Condvar", "PoisonError"] {
        // Named whole, or in the braces of the one import of `std::sync`.
        let whole = (0..all.len()).any(|at| all[at] == name && std_sync(at));
        let listed = code
            .match_indices("use std::sync::{")
            .any(|(at, opening)| items(&code[at + opening.len()..]).iter().any(|item| item.trim() == name));
        if whole || listed {
            found.push(format!("{path}: std::sync::{name} has no rank: take it from src/lock.rs"));
        }
    }
    found
}

/// `unsafe` outside the one file that may.
fn stray_unsafe(path: &str, text: &str) -> Vec<String> {
    let stray = path != "src/store/local/map.rs" && has_word(&code_of(text), "unsafe");
    stray.then(|| format!("{path}: unsafe only in src/store/local/map.rs")).into_iter().collect()
}

/// A file that does not say what it owns.
fn missing_head(path: &str, text: &str) -> Vec<String> {
    let head = text.lines().next().unwrap_or_default();
    let says = head.strip_prefix("//! ").is_some_and(|line| line.len() > 10);
    (!says).then(|| format!("{path}: starts without a line of //!")).into_iter().collect()
}

/// What is left over from building.
fn left_overs(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut found = Vec::new();
    for word in ["dbg!", "println!", "print!", "eprintln!", "eprint!", "todo!", "unimplemented!"] {
        if code.match_indices(word).any(|(at, _)| !code[..at].ends_with(is_word)) {
            found.push(format!("{path}: {word}"));
        }
    }
    for mark in ["FIXME", "TODO", "#[ignore"] {
        if text.contains(mark) {
            found.push(format!("{path}: {mark}"));
        }
    }
    if code.match_indices("matches!(").any(|(at, _)| is_statement(&code, at)) {
        found.push(format!("{path}: a bare matches!( asserts nothing"));
    }
    found
}

/// Whether the macro call at `at` begins a statement and ends in `;`, so that its value is dropped.
fn is_statement(code: &str, at: usize) -> bool {
    let begins = code[..at].trim_end().ends_with([';', '{', '}']);
    let (mut depth, mut end) = (0, code.len());
    for (n, c) in code[at..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => {
                end = at + n + 1;
                break;
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    begins && code[end..].trim_start().starts_with(';')
}

/// Names that the house does not use.
fn poor_names(path: &str, text: &str) -> Vec<String> {
    let empty = path.split(['/', '.']).filter(|part| EMPTY_NAMES.contains(part));
    let mut found: Vec<_> = empty.map(|part| format!("{path}: '{part}' says nothing")).collect();
    found.extend(code_of(text).contains("fn get_").then(|| format!("{path}: a name that starts with get_")));
    found
}

/// A changelog: `# Changelog`, then `## Unreleased` or `## x.y.z - yyyy-mm-dd`, each with `- ` lines.
fn changelog_faults(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("# Changelog\n") {
        found.push("CHANGELOG.md: starts with '# Changelog'".to_owned());
    }
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    if sections.is_empty() {
        found.push("CHANGELOG.md: no version".to_owned());
    }
    for section in sections {
        let title = section.lines().next().unwrap_or_default();
        let released = title.split_once(" - ").is_some_and(|(version, date)| {
            version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3
                && date.len() == 10
                && date.bytes().filter(|&b| b == b'-').count() == 2
        });
        if title != "Unreleased" && !released {
            found.push(format!("CHANGELOG.md: '{title}' is no version"));
        }
        if !section.lines().any(|line| line.starts_with("- ")) {
            found.push(format!("CHANGELOG.md: '{title}' says nothing"));
        }
    }
    found
}

// --- reading Rust as text ------------------------------------------------------------------------------

/// The room of a file under `src/`; none for `lib.rs` and the binary.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split(['/', '.']).next()?;
    (first != "lib" && first != "main").then_some(first)
}

/// First segments of every path that starts at the crate's root, by `crate::` or by enough `super::`.
fn imported_rooms(path: &str, text: &str) -> BTreeSet<String> {
    let code = code_of(text);
    let inner = inline_modules(&code);
    let mut found = BTreeSet::new();
    for (word, at) in words(&code) {
        // Only the head of a path: the part after `::` belongs to a path that was read already.
        if (word != "crate" && word != "super") || code[..at].trim_end().ends_with("::") {
            continue;
        }
        let mut base = module_path(path);
        base.extend(
            inner.iter().filter(|(from, until, _)| (*from..*until).contains(&at)).map(|m| m.2.clone()),
        );
        follow(&code[at..], base, &mut found);
    }
    found
}

/// Walks one use tree from `rest`, which starts with a segment or a brace, and notes the rooms it reaches.
fn follow(rest: &str, mut base: Vec<String>, found: &mut BTreeSet<String>) {
    let rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('{') {
        for item in items(list) {
            follow(item, base.clone(), found);
        }
        return;
    }
    let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let (word, rest) = rest.split_at(end);
    match word {
        "crate" => base.clear(),
        "super" => {
            base.pop();
        }
        "self" => {}
        _ => {
            base.push(word.to_owned());
            found.extend(base.first().filter(|name| !name.is_empty()).cloned());
            return;
        }
    }
    if let Some(rest) = rest.trim_start().strip_prefix("::") {
        follow(rest, base, found);
    }
}

/// The items of a brace list, whose opening brace was taken; braces inside items are kept whole.
fn items(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                found.push(&list[from..at]);
                break;
            }
            ',' if depth == 0 => {
                found.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// `src/a/b.rs` is `[a, b]`, `src/a/mod.rs` is `[a]`, `src/lib.rs` is empty.
fn module_path(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<_> = inside.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// `mod name { … }` with where its braces open and close.
fn inline_modules(code: &str) -> Vec<(usize, usize, String)> {
    let all: Vec<_> = words(code).collect();
    all.windows(2)
        .filter(|pair| pair[0].0 == "mod")
        .filter_map(|pair| {
            let (name, at) = pair[1];
            let after = at + name.len();
            let open = after + code[after..].find(|c: char| !c.is_whitespace())?;
            code[open..].starts_with('{').then(|| (open, closing(code, open), name.to_owned()))
        })
        .collect()
}

/// Where the brace that opens at `open` closes.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(code: &str) -> impl Iterator<Item = (&str, usize)> {
    code.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word, word.as_ptr() as usize - code.as_ptr() as usize))
}

fn has_word(code: &str, wanted: &str) -> bool {
    words(code).any(|(word, _)| word == wanted)
}

/// The text with comments, strings and characters blanked out, at the same places.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(text, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("blanks replace whole characters")
}

/// Where the comment, string or character that starts at `at` ends; `at` when none starts there.
fn skip(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let starts = |what: &str| bytes[at..].starts_with(what.as_bytes());
    let past = |from: usize, what: &str| {
        let rest = bytes.get(from..).unwrap_or_default();
        let found = rest.windows(what.len()).position(|window| window == what.as_bytes());
        found.map_or(bytes.len(), |n| from + n + what.len())
    };
    let after_word = at > 0 && is_word(char::from(bytes[at - 1]));
    if starts("//") {
        return past(at, "\n");
    }
    if starts("/*") {
        return past(at + 2, "*/");
    }
    if !after_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let hashes =
            bytes[at..].iter().skip_while(|b| b.is_ascii_alphabetic()).take_while(|&&b| b == b'#').count();
        let open = at + bytes[at..].iter().take_while(|b| b.is_ascii_alphabetic()).count() + hashes;
        if bytes.get(open) == Some(&b'"') {
            return past(open + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    match bytes[at] {
        b'"' => quoted(bytes, at, b'"'),
        // A lifetime has no closing quote after one character.
        b'\'' if bytes.get(at + 1) == Some(&b'\\') => quoted(bytes, at, b'\''),
        b'\'' => {
            let one = text[at + 1..].chars().next().map_or(0, char::len_utf8);
            if one > 0 && bytes.get(at + 1 + one) == Some(&b'\'') { at + one + 2 } else { at }
        }
        _ => at,
    }
}

fn quoted(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

// --- the tests -----------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, by its path from the root.
fn files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

fn hold(folders: &[&str], law: fn(&str, &str) -> Vec<String>) {
    let all: Vec<_> = folders
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|(path, _)| path != "tests/house.rs")
        .collect();
    assert!(all.len() > 10, "the source was not found");
    let broken: Vec<_> = all.iter().flat_map(|(path, text)| law(path, text)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    hold(&["src"], forbidden_imports);
}

#[test]
fn the_rooms_form_no_circle() {
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while placed.len() < ROOMS.len() {
        let ready: Vec<_> = ROOMS
            .iter()
            .filter(|(name, below)| !placed.contains(name) && below.iter().all(|room| placed.contains(room)))
            .map(|(name, _)| *name)
            .collect();
        assert!(!ready.is_empty(), "a circle among those outside {placed:?}");
        placed.extend(ready);
    }
}

#[test]
fn third_parties_stay_in_their_place() {
    hold(&["src"], escaped_third_parties);
}

#[test]
fn unsafe_lives_in_one_file() {
    hold(&["src", "tests", "benches"], stray_unsafe);
}

#[test]
fn every_lock_has_a_rank() {
    hold(&["src"], unranked_locks);
}

#[test]
fn every_file_says_what_it_owns() {
    hold(&["src", "tests", "benches"], missing_head);
}

#[test]
fn nothing_is_left_over_from_building() {
    hold(&["src"], left_overs);
}

#[test]
fn names_say_what_they_name() {
    hold(&["src"], poor_names);
}

/// README: a line `| key | name | versions |` per API between `<!-- apis -->` and `<!-- /apis -->`.
#[test]
fn the_readme_names_the_apis_that_the_code_serves() {
    let served: Vec<_> = weir_broker::supported_apis()
        .map(|(key, name, versions)| format!("| {key} | {name} | {}–{} |", versions.start(), versions.end()))
        .collect();
    assert!(!served.is_empty());
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let table = readme.split_once("<!-- apis -->").and_then(|(_, rest)| rest.split_once("<!-- /apis -->"));
    let told: Vec<_> = table
        .map_or("", |(table, _)| table)
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("| ") && line.chars().nth(2).is_some_and(|c| c.is_ascii_digit()))
        .collect();
    assert_eq!(
        told,
        served,
        "put this between <!-- apis --> and <!-- /apis --> of README.md:\n{}",
        served.join("\n")
    );
}

/// README: a line `| operation | rate |` per operation between `<!-- actions -->` and `<!-- /actions -->`.
#[test]
fn the_readme_names_the_operations_that_the_kinesis_door_serves() {
    let rate = |rate: Option<u32>| rate.map_or("–".to_owned(), |n| n.to_string());
    let served: Vec<_> =
        weir_broker::supported_actions().map(|(name, r)| format!("| {name} | {} |", rate(r))).collect();
    assert!(!served.is_empty());
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let table =
        readme.split_once("<!-- actions -->").and_then(|(_, rest)| rest.split_once("<!-- /actions -->"));
    let told: Vec<_> = table
        .map_or("", |(table, _)| table)
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("| "))
        .collect();
    assert_eq!(
        told,
        served,
        "put this between <!-- actions --> and <!-- /actions --> of README.md:\n{}",
        served.join("\n")
    );
}

/// README's limits: a number beside a key is that key's default, and `*` says that it can be altered.
#[test]
fn the_readme_tells_the_limits_that_the_code_has() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let table =
        readme.split_once("<!-- limits -->").and_then(|(_, rest)| rest.split_once("<!-- /limits -->"));
    let mut checked = 0;
    for line in table.map_or("", |(table, _)| table).lines().filter(|line| line.starts_with('|')) {
        let [_, what, number, told, ..] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        for (at, key) in told.split(", ").filter(|key| key.starts_with('`')).enumerate() {
            let name = key.trim_matches(['`', '*']);
            let row = weir_broker::config::keys::find(name).unwrap_or_else(|| panic!("{what}: no {name}"));
            assert_eq!(row.dynamic, key.ends_with('*'), "{name}: altered while running");
            let digits: String = number
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == ',')
                .filter(|c| *c != ',')
                .collect();
            assert!(at > 0 || row.default == Some(&digits), "{name}: {:?} is not {number}", row.default);
            checked += 1;
        }
    }
    assert!(checked > 15, "the table was not found");
}

/// A line `field: self.number("key")` of the settings, and somebody outside `config` who says the field.
#[test]
fn a_key_that_is_called_applied_is_read_by_somebody() {
    let (config, others): (Vec<_>, Vec<_>) =
        files("src").into_iter().partition(|(path, _)| path.starts_with("src/config"));
    let settings = config.iter().find(|(path, _)| path == "src/config/settings.rs").expect("the settings");
    let code: Vec<String> = others.iter().map(|(_, text)| code_of(text)).collect();
    let mut checked = 0;
    for line in settings.1.lines() {
        let Some((before, rest)) = line.split_once(": self.") else { continue };
        let field = before.rsplit(' ').next().unwrap_or_default();
        let Some(key) = rest.split('"').nth(1).and_then(weir_broker::config::keys::find) else { continue };
        let read = code.iter().any(|text| has_word(text, field));
        let applied = key.effect == weir_broker::config::Effect::Applied;
        assert!(read || !applied, "{} is called applied, and nothing reads {field}", key.name);
        checked += 1;
    }
    assert!(checked > 20, "the settings were not found");
}

#[test]
fn the_changelog_has_its_shape() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    assert_eq!(changelog_faults(&text), Vec::<String>::new());
}

// --- the laws themselves, on toys ----------------------------------------------------------------------

#[test]
fn a_planted_import_is_found_however_it_is_written() {
    for text in [
        "use crate::topic::Topic;",
        "use crate::{batch::Batch, topic::{self, Registry}};",
        "fn f() { let _ = crate::topic::open(); }",
        "use super::super::topic;",
        "use super::{log, super::{topic, batch}};",
        "mod tests { use super::super::super::topic; }",
        "pub(in crate::topic) fn f() {}",
    ] {
        let found = forbidden_imports("src/store/local.rs", text);
        let deep =
            forbidden_imports("src/store/local/log.rs", &text.replacen("super::", "super::super::", 1));
        assert!(!found.is_empty() || !deep.is_empty(), "{text}");
    }
    let found = forbidden_imports("src/store/local.rs", "use crate::{batch, topic, group};");
    assert_eq!(
        found,
        [
            "src/store/local.rs: store must not import group",
            "src/store/local.rs: store must not import topic"
        ]
    );
}

#[test]
fn an_allowed_import_and_words_in_comments_and_strings_pass() {
    for text in [
        "use crate::batch::Batch;",
        "use super::watermark::Watermark;",
        "mod tests { use super::*; use super::super::memory; }",
        "// use crate::topic;\n/* crate::group */",
        "const TEXT: &str = \"crate::topic\"; const RAW: &str = r#\"crate::\"topic\"#;",
        "fn f<'a>(c: char) -> &'a str { if c == '\"' { \"crate::group\" } else { \"\" } }",
    ] {
        assert_eq!(forbidden_imports("src/store/local/log.rs", text), Vec::<String>::new(), "{text}");
    }
    assert!(!forbidden_imports("src/cellar/mod.rs", "").is_empty());
}

#[test]
fn a_planted_lock_without_a_rank_is_found() {
    for text in [
        "use std::sync::Mutex;",
        "use std::sync::{Arc, PoisonError, RwLock};",
        "fn f(lock: &std::sync::Mutex<u8>) {}",
    ] {
        assert!(!unranked_locks("src/topic/mod.rs", text).is_empty(), "{text}");
        assert!(unranked_locks("src/lock.rs", text).is_empty(), "{text}");
        assert!(unranked_locks("src/topic/tests.rs", text).is_empty(), "{text}");
    }
    for text in [
        "use std::sync::{Arc, OnceLock};\nuse crate::lock::{Mutex, rank};",
        "use tokio::sync::{Mutex, RwLock};",
        "// std::sync::Mutex",
    ] {
        assert_eq!(unranked_locks("src/topic/mod.rs", text), Vec::<String>::new(), "{text}");
    }
    assert!(
        !forbidden_imports("src/lock.rs", "use crate::store::Error;").is_empty(),
        "a leaf imports nothing"
    );
    assert!(forbidden_imports("src/batch/mod.rs", "use crate::lock::Mutex;").is_empty());
}

#[test]
fn a_planted_third_party_is_found() {
    assert_eq!(escaped_third_parties("src/topic/mod.rs", "use kafka_protocol::messages;").len(), 1);
    assert_eq!(escaped_third_parties("src/kafka/mod.rs", "use kafka_protocol::messages;").len(), 0);
    assert_eq!(escaped_third_parties("src/main/serve.rs", "use clap::Args;").len(), 1);
    assert_eq!(
        escaped_third_parties("src/group/mod.rs", "use tokio::time; let now = Instant::now();").len(),
        2
    );
    assert_eq!(escaped_third_parties("src/kafka/mod.rs", "// kafka_protocol, memmap2\n").len(), 0);
}

#[test]
fn planted_left_overs_are_found() {
    for text in [
        "fn f() { dbg!(1); }",
        "fn f() { println!(); }",
        "fn f() { eprint!(\"\"); }",
        "fn f() { todo!() }",
        "// FIXME later",
        "#[test]\n#[ignore = \"slow\"]\nfn f() {}",
        "fn f() {\n    matches!(a, b);\n}",
    ] {
        assert_eq!(left_overs("src/a.rs", text).len(), 1, "{text}");
    }
    assert!(left_overs("src/a.rs", "/// println!()\nfn f() -> bool {\n    assert!(\n        matches!(a, b));\n    matches!(a, (b, c))\n}").is_empty());
}

#[test]
fn planted_faults_of_form_are_found() {
    assert_eq!(stray_unsafe("src/store/local/log.rs", "unsafe { f() }").len(), 1);
    assert_eq!(stray_unsafe("src/store/local/log.rs", "#![deny(unsafe_code)] // unsafe").len(), 0);
    assert_eq!(missing_head("src/a.rs", "use b;\n//! late").len(), 1);
    assert_eq!(missing_head("src/a.rs", "//!\nuse b;").len(), 1);
    assert_eq!(poor_names("src/kafka/util.rs", "fn get_topic() {}").len(), 2);
    assert_eq!(
        changelog_faults("# Changelog\n\n## Unreleased\n- a\n\n## 0.1.0 - 2026-11-24\n- b\n"),
        Vec::<String>::new()
    );
    assert_eq!(changelog_faults("# Changes\n## soon\n").len(), 3);
    assert_eq!(changelog_faults("# Changelog\n").len(), 1);
}
