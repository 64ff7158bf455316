//! rskafka 0.6.0 against the broker in argv[1]: every codec, offsets, delete records, topics.
use chrono::{DateTime, TimeZone, Utc};
use rskafka::client::partition::{Compression, OffsetAt, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use std::{collections::BTreeMap, future::Future, time::Duration, time::Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn sample(n: i64) -> Vec<Record> {
    let time = |i| -> DateTime<Utc> { Utc.timestamp_millis_opt(1_700_000_000_000 + i).unwrap() };
    (0..n).map(|i| Record {
        key: Some(format!("k{}", i % 10).into_bytes()),
        value: Some(format!("{i:08}:").repeat(1 + (i % 7) as usize).into_bytes()),
        headers: BTreeMap::from([("n".to_owned(), i.to_string().into_bytes())]),
        timestamp: time(i),
    }).collect()
}

fn must(ok: bool, what: &str) -> Outcome {
    if ok { Ok(()) } else { Err(what.into()) }
}

async fn fresh(client: &Client) -> Result<String, Box<dyn std::error::Error>> {
    let topic = format!("rs-{}", std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_nanos());
    client.controller_client()?.create_topic(&topic, 1, 1, 5000).await?;
    Ok(topic)
}

async fn codec(client: &Client, codec: Compression) -> Outcome {
    let topic = fresh(client).await?;
    let partition = client.partition_client(&topic, 0, UnknownTopicHandling::Retry).await?;
    let sent = sample(500);
    for chunk in sent.chunks(100) {
        let offsets = partition.produce(chunk.to_vec(), codec).await?;
        must(offsets.len() == 100, "one offset per record")?;
    }
    let (mut got, mut at) = (vec![], 0);
    while got.len() < 500 {
        let (records, high) = partition.fetch_records(at, 1..1_000_000, 1000).await?;
        must(high == 500 && !records.is_empty(), "high watermark")?;
        must(records.iter().enumerate().all(|(i, r)| r.offset == at + i as i64), "offsets contiguous")?;
        at += records.len() as i64;
        got.extend(records.into_iter().map(|r| r.record));
    }
    must(got == sent, "contents differ")
}

async fn offsets_and_delete_records(client: &Client) -> Outcome {
    let topic = fresh(client).await?;
    let partition = client.partition_client(&topic, 0, UnknownTopicHandling::Retry).await?;
    partition.produce(sample(50), Compression::NoCompression).await?;
    must(partition.get_offset(OffsetAt::Earliest).await? == 0, "earliest")?;
    must(partition.get_offset(OffsetAt::Latest).await? == 50, "latest")?;
    must(partition.get_offset(OffsetAt::Timestamp(Utc.timestamp_millis_opt(1_700_000_000_020).unwrap())).await? == 20, "by time")?;
    partition.delete_records(30, 5000).await?;
    must(partition.get_offset(OffsetAt::Earliest).await? == 30, "earliest after delete records")?;
    must(partition.fetch_records(10, 1..1_000_000, 100).await.is_err(), "fetch below the start must fail")
}

async fn topics(client: &Client) -> Outcome {
    let topic = fresh(client).await?;
    must(client.controller_client()?.create_topic(&topic, 1, 1, 5000).await.is_err(), "created twice")?;
    must(client.list_topics().await?.iter().any(|t| t.name == topic && t.partitions.len() == 1), "listed")?;
    client.controller_client()?.delete_topic(&topic, 5000).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    must(!client.list_topics().await?.iter().any(|t| t.name == topic), "still listed")
}

async fn report(name: &str, body: impl Future<Output = Outcome>) {
    if std::env::args().len() > 2 && !std::env::args().skip(2).any(|a| a == name) {
        return;
    }
    let start = Instant::now();
    let outcome = tokio::time::timeout(Duration::from_secs(30), body).await.unwrap_or(Err("test time-out".into()));
    let seconds = start.elapsed().as_secs_f32();
    match outcome {
        Ok(()) => println!("pass rskafka/{name} {seconds:.1}"),
        Err(e) => println!("fail rskafka/{name} {seconds:.1} # {e}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let bootstrap = std::env::args().nth(1).unwrap();
    let build = tokio::time::timeout(Duration::from_secs(20), ClientBuilder::new(vec![bootstrap]).build()).await;
    let Ok(Ok(client)) = build else { return println!("fail rskafka/connect") };
    report("codec_none", codec(&client, Compression::NoCompression)).await;
    report("codec_gzip", codec(&client, Compression::Gzip)).await;
    report("codec_snappy", codec(&client, Compression::Snappy)).await;
    report("codec_lz4", codec(&client, Compression::Lz4)).await;
    report("codec_zstd", codec(&client, Compression::Zstd)).await;
    report("offsets_and_delete_records", offsets_and_delete_records(&client)).await;
    report("topics", topics(&client)).await;
}
