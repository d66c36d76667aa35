//! A stand-in for a polled source: answers every request with a body made for it and remembers who asked for what.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// A streams file that polls [`firms_csv`]'s product.
pub const FIRMS_STREAM: &str = "version: 1\nstreams:\n  - id: snpp\n    source_id: firms_viirs_snpp\n    connector: firms\n    tenant: test\n    interval: 60s\n    config: {product: VIIRS_SNPP_NRT, area: [-124.5, 32.5, -114.1, 42.1]}\n";

pub struct FakeUpstream {
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeUpstream {
    /// `answer` gets the number of the request, from 0. Serves until the test's process ends.
    pub fn serve(answer: impl Fn(usize) -> String + Send + 'static) -> FakeUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("127.0.0.1 has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let Some(line) = request_line(&connection) else { continue };
                let number = {
                    let mut seen = seen.lock();
                    seen.push(line);
                    seen.len() - 1
                };
                let body = answer(number);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // The client may have hung up.
                let _ =
                    (&connection).write_all(head.as_bytes()).and_then(|()| (&connection).write_all(body.as_bytes()));
            }
        });
        FakeUpstream { url, requests }
    }

    /// The request lines so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

fn request_line(connection: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    lines.map_while(Result::ok).find(String::is_empty)?;
    Some(first)
}

/// FIRMS rows of VIIRS S-NPP observed at minutes of 2026-06-01, so many from `first` on.
pub fn firms_csv(first: usize, rows: usize) -> String {
    let mut text = String::from(
        "latitude,longitude,bright_ti4,scan,track,acq_date,acq_time,satellite,instrument,confidence,version,bright_ti5,frp,daynight\n",
    );
    for row in first..first + rows {
        let (latitude, longitude) = (34.0 + (row % 500) as f64 * 0.01, -122.0 + (row / 500) as f64 * 0.01);
        let time = row % 24 * 100 + row % 60;
        text.push_str(&format!(
            "{latitude:.5},{longitude:.5},331.2,0.4,0.4,2026-06-01,{time:04},N,VIIRS,n,2.0NRT,290.1,3.4,D\n"
        ));
    }
    text
}

/// Which of [`firms_csv`]'s rows lies there.
pub fn row_of(latitude: f64, longitude: f64) -> usize {
    let steps = |degrees: f64| (degrees * 100.0).round() as usize;
    steps(longitude + 122.0) * 500 + steps(latitude - 34.0)
}
