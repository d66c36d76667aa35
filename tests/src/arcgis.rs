//! What polls layers in tests: a process whose only source is a double of an ArcGIS server, and the double over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::Arc;

use streammanager::faults::arcgis::{LayerDouble, LayerFault};
use streammanager::settings::Settings;
use streammanager::upstream::Upstream;

use crate::polled::PolledWorld;
pub use crate::polled::Published;

/// One process with a stream, whose polls ask `upstream`.
pub struct LayerWorld {
    world: PolledWorld,
    pub double: Arc<LayerDouble>,
}

impl Deref for LayerWorld {
    type Target = PolledWorld;

    fn deref(&self) -> &PolledWorld {
        &self.world
    }
}

impl LayerWorld {
    pub async fn new(streams_file: &str, double: LayerDouble) -> LayerWorld {
        let double = Arc::new(double);
        LayerWorld::asking(streams_file, double.clone(), double).await
    }

    /// The same, whose upstream reaches the double in another way.
    pub async fn asking(streams_file: &str, double: Arc<LayerDouble>, upstream: Arc<dyn Upstream>) -> LayerWorld {
        let world = PolledWorld::new(streams_file, "2026-09-01T19:00:00Z", Settings::local(), upstream).await;
        LayerWorld { world, double }
    }

    /// The layer says that it has changed now.
    pub fn edited(&self) {
        let now = self.now().as_millisecond();
        self.double.set(|layer| layer.edited = Some(now));
    }
}

/// Serves the double over HTTP until the test's process ends; gives its address.
pub fn serve(double: Arc<LayerDouble>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let double = double.clone();
            std::thread::spawn(move || answer(&connection, &double));
        }
    });
    url
}

/// The client may hang up at any time.
fn answer(mut connection: &TcpStream, double: &LayerDouble) -> Option<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    lines.map_while(Result::ok).find(String::is_empty)?;
    let (delay, response) = double.answer(first.split(' ').nth(1)?);
    std::thread::sleep(delay);
    let headers: String = response.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let endless = double.fault() == Some(LayerFault::Endless);
    let length = if endless { String::new() } else { format!("content-length: {}\r\n", response.body.len()) };
    let head = format!("HTTP/1.1 {} x\r\n{headers}{length}connection: close\r\n\r\n", response.status);
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(&response.body).ok()?;
    if !endless {
        return Some(());
    }
    loop {
        connection.write_all(&[b' '; 65_536]).ok()?;
    }
}
