//! `weir shard`: asks a running broker's admin door about shards, and works out how many a load takes.
//!
//! Invariant: a table is made of the same JSON that `--json` prints; a refusal is the broker's own words, one line.
//! Deliberately absent: clap, what a change comes to, retries.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_broker::quota::plan::{Load, Need, Plan, What, plan as plan_of};

use crate::{Failure, health, print};

/// As long as the door keeps a connection.
const PATIENCE: Duration = Duration::from_secs(65);
/// Largest answer: some ten thousand shards are a few MiB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What a topic's name may hold beside letters and digits needs no encoding.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// What to ask for.
pub(crate) enum Wish {
    List,
    Split { shard: u32, at: Option<u128> },
    Merge { shard: u32, adjacent: u32, force: bool },
    Scale { count: u32, force: bool },
}

/// The shards of a topic, as the door tells them.
#[derive(Deserialize)]
struct Listed {
    topic: String,
    partitions: usize,
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    id: u32,
    open: bool,
    partition: i32,
    from: i64,
    until: Option<i64>,
    start_hash: String,
    end_hash: String,
    parents: Vec<u32>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Reads `3` or `shardId-000000000003`.
pub(crate) fn id(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("shardId-").unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.parse().ok().filter(|_| plain);
    id.ok_or_else(|| "expected a number or shardId-000000000003".to_owned())
}

/// Asks `address`, and prints the shards as they are then.
pub(crate) fn ask(topic: &str, wish: &Wish, address: &str, as_json: bool) -> Result<(), Failure> {
    let body = match *wish {
        Wish::List => None,
        Wish::Split { shard, at } => {
            let at = at.map(|at| at.to_string());
            Some(json!({"split": {"shard": shard, "at": at}}))
        }
        Wish::Merge { shard, adjacent, force } => {
            Some(json!({"merge": {"shard": shard, "adjacent": adjacent, "force": force}}))
        }
        Wish::Scale { count, force } => Some(json!({"scale": {"count": count, "force": force}})),
    };
    let (status, answer) = exchange(address, topic, body.as_ref()).map_err(|error| {
        Failure::Run(format!(
            "cannot ask the admin door at {address}: {error}; is weir running there? --admin HOST:PORT names another"
        ))
    })?;
    if status != "200" {
        let said = String::from_utf8_lossy(&answer);
        let why = serde_json::from_slice(&answer).map_or_else(
            |_| format!("{address} answers {status}: {}", said.lines().next().unwrap_or("nothing")),
            |Refused { error }| error,
        );
        return Err(Failure::Run(why));
    }
    let foreign = |_| Failure::Run(format!("{address} does not answer like weir's admin door"));
    let listed: Listed = serde_json::from_slice(&answer).map_err(foreign)?;
    if as_json { print(&answer) } else { print(table(listed).as_bytes()) }
}

/// One request; the status and the body of its answer.
fn exchange(address: &str, topic: &str, body: Option<&Value>) -> io::Result<(String, Vec<u8>)> {
    let mut socket = health::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let path = format!("/v1/topics/{}/shards", utf8_percent_encode(topic, ENCODED));
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let cut = || io::Error::other("the answer ended early, or is not HTTP");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(cut)?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let status = head.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(cut)?;
    if length == Some(body.len()) { Ok((status.to_owned(), body)) } else { Err(cut()) }
}

/// Open shards first, each by range; then what a merge left without a shard.
fn table(mut listed: Listed) -> String {
    listed.shards.sort_by_key(|shard| (!shard.open, start(shard), shard.id));
    let open = listed.shards.iter().filter(|shard| shard.open).count();
    let mut text = format!(
        "{}: {} open, {} closed, {}\n{:>7}  {:<6}  {:>9}  {:<17}  {:<9}  {:<7}  HASHES\n",
        listed.topic,
        count(open, "shard"),
        listed.shards.len() - open,
        count(listed.partitions, "partition"),
        "SHARD",
        "STATE",
        "PARTITION",
        "OFFSETS",
        "PARENTS",
        "KEYS",
    );
    for shard in &listed.shards {
        let until = shard.until.map(|until| until.to_string()).unwrap_or_default();
        let parents: Vec<_> = shard.parents.iter().map(u32::to_string).collect();
        text += &format!(
            "{:>7}  {:<6}  {:>9}  {:<17}  {:<9}  {:<7}  {}..{}\n",
            shard.id,
            if shard.open { "open" } else { "closed" },
            shard.partition,
            format!("{}..{until}", shard.from),
            parents.join(" "),
            share(shard),
            shard.start_hash,
            shard.end_hash
        );
    }
    let served: BTreeSet<_> =
        listed.shards.iter().filter(|shard| shard.open).map(|shard| shard.partition).collect();
    let idle = (0..).take(listed.partitions).filter(|partition| !served.contains(partition));
    let idle: Vec<String> = idle.map(|partition| partition.to_string()).collect();
    if !idle.is_empty() {
        text += &format!("without an open shard, read-only: partition {}\n", idle.join(", "));
    }
    text
}

fn start(shard: &Shard) -> u128 {
    shard.start_hash.parse().unwrap_or_default()
}

/// Part of the key space, in percent.
fn share(shard: &Shard) -> String {
    let width = shard.end_hash.parse().unwrap_or(u128::MAX).saturating_sub(start(shard));
    format!("{:.2} %", width as f64 / u128::MAX as f64 * 100.0)
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Prints how many shards a load takes. Nobody is asked.
pub(crate) fn plan(load: &Load, as_json: bool) -> Result<(), Failure> {
    let plan = plan_of(load).map_err(|absurd| Failure::Usage(absurd.to_string()))?;
    let text = if as_json { format!("{}\n", plan_json(&plan)) } else { plan_text(load, &plan) };
    print(text.as_bytes())
}

fn plan_text(load: &Load, plan: &Plan) -> String {
    let shards = usize::try_from(plan.shards).unwrap_or(usize::MAX);
    let mut text = format!(
        "{}: {} decide\n\n{:<14}  {:>13}  {:>11}  {:>6}  {:>5}\n",
        count(shards, "shard"),
        words(plan.decides.what),
        "limit",
        "stream",
        "a shard",
        "shards",
        "used"
    );
    for need in &plan.needs {
        text += &format!(
            "{:<14}  {:>13}  {:>11}  {:>6}  {:>3} %\n",
            words(need.what),
            amount(need, need.asked),
            amount(need, need.per_shard.into()),
            need.shards(),
            need.used_percent(plan.shards)
        );
    }
    text += &format!("\nin {} MB/s, out {} MB/s\n", megabytes(plan.in_bytes), megabytes(plan.out_bytes));
    text + &match plan.poll_ms {
        Some(ms) => format!(
            "polling: {} share 2 MiB/s and 5 calls/s (10000 records each) of a shard: each may ask it every {ms} ms\n",
            consumers(load.consumers)
        ),
        None => format!(
            "fan-out: {}, each with 2 MiB/s of a shard of its own, pushed without calls\n",
            consumers(load.consumers)
        ),
    }
}

fn consumers(n: u64) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), "consumer")
}

fn words(what: What) -> &'static str {
    match what {
        What::WriteBytes => "bytes written",
        What::WriteRecords => "records written",
        What::ReadBytes => "bytes read",
        What::ReadRecords => "records read",
    }
}

fn amount(need: &Need, n: u128) -> String {
    match need.what {
        What::WriteBytes | What::ReadBytes => format!("{} MB/s", megabytes(n)),
        What::WriteRecords | What::ReadRecords => format!("{n}/s"),
    }
}

fn megabytes(bytes: u128) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

fn plan_json(plan: &Plan) -> Value {
    let name = |what| match what {
        What::WriteBytes => "write_bytes",
        What::WriteRecords => "write_records",
        What::ReadBytes => "read_bytes",
        What::ReadRecords => "read_records",
    };
    let limit = |need: &Need| {
        json!({
            "limit": name(need.what),
            "per_second": need.asked,
            "per_second_of_a_shard": need.per_shard,
            "shards": need.shards(),
            "used_percent": need.used_percent(plan.shards),
        })
    };
    json!({
        "shards": plan.shards,
        "decides": name(plan.decides.what),
        "in_bytes_per_second": plan.in_bytes,
        "out_bytes_per_second": plan.out_bytes,
        "poll_ms": plan.poll_ms,
        "limits": plan.needs.iter().map(limit).collect::<Vec<_>>(),
    })
}
