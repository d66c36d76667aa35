//! The embedded Kafka endpoint alone, as a process that tests can kill: `kafka_endpoint FOLDER ADDRESS`.
//! It prints `ready` once it listens and ends on Ctrl-C or when its standard input closes.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use streammanager_kafka_endpoint::Broker;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(tracing::Level::WARN).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, address] = arguments.as_slice() else { return Err("usage: kafka_endpoint FOLDER ADDRESS".into()) };
    let address: SocketAddr = address.parse()?;
    let broker = Broker::open(Path::new(folder), address)?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    let stop = CancellationToken::new();
    let on_signal = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.cancel();
        }
    });
    let on_close = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        on_close.cancel();
    });
    println!("ready");
    broker.serve(listener, stop).await?;
    Ok(())
}
