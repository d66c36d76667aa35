//! A connection to any MQTT broker, encrypted or not. What is done with its messages is elsewhere.

use std::path::Path;
use std::time::Duration;

use streammanager::tls::{Encryption, Named};
use streammanager_mqtt_endpoint::client::Client;
pub use streammanager_mqtt_endpoint::client::{Login, Message};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TLS: Named = Named { ca_file: "ca_file", encryption: "mqtts" };
/// To an open and encrypted connection, and the broker's answer.
const CONNECT: Duration = Duration::from_secs(20);

/// Connects to a broker at (encrypted, host, port), and trusts the authorities in the PEM file `ca`, else those of this host.
///
/// # Errors
/// Why not, in the broker's words where it has some.
pub async fn dial(
    (encrypted, host, port): (bool, &str, u16),
    ca: Option<&Path>,
    login: &Login,
) -> Result<Client, String> {
    let dialled = async {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, port)).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("nothing listens at {host}:{port}"),
            _ => format!("{host}:{port}: {e}"),
        })?;
        // Acknowledgements are small and waited for.
        let _ = socket.set_nodelay(true);
        let client = if encrypted {
            Client::connect(Encryption::new(ca, TLS)?.over(socket, bare).await?, login).await
        } else {
            Client::connect(socket, login).await
        };
        client.map_err(|e| e.to_string())
    };
    timeout(CONNECT, dialled).await.unwrap_or_else(|_| Err(format!("{host}:{port} does not answer")))
}
