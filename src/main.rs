//! Command line, runtime, signals: builds the house and opens the doors.
use weir_broker::config::{Config, Source};
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    let mut builder = weir_broker::Broker::builder();
    let mut args = std::env::args().skip(1);
    let mut dir = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--listen" => { let addr = args.next().unwrap_or_default(); config.set("listeners", &format!("PLAINTEXT://{addr}"), Source::CommandLine)?; }
            "--data-dir" => dir = args.next(),
            "-X" => { let kv = args.next().unwrap_or_default(); if let Some((k, v)) = kv.split_once('=') { config.set(k, v, Source::CommandLine)?; } }
            "--kinesis" | "--admin" => { args.next(); }
            _ => {}
        }
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    builder = match dir { Some(d) => builder.data_dir(d.into()), None => builder.ephemeral() };
    let broker = builder.config(config).start().await?;
    println!("{:?}", broker.kafka_addrs());
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! { _ = tokio::signal::ctrl_c() => {}, _ = term.recv() => {} }
    broker.shutdown().await?;
    Ok(())
}
