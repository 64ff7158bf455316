//! Command line, runtime, signals: builds the house and opens the doors.
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = weir_broker::config::Config::default();
    config.values.insert("port".into(), std::env::args().nth(1).unwrap_or("9092".into()));
    let broker = weir_broker::Broker::builder().config(config).ephemeral().start().await?;
    println!("{:?}", broker.kafka_addrs());
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}
