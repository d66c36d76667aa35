//! A TCP relay in front of a broker that advertises the relay's address: connections through it can be cut, refused and held up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What happens to connections now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// New ones end at once.
    Cut,
    /// Bytes wait.
    Silent,
}

struct State {
    line: Line,
    open: Vec<TcpStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Relays until the process ends.
pub struct Relay {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Relay {
    /// From `port` to `broker`, both of 127.0.0.1.
    pub fn start(port: u16, broker: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the relay's port is free");
        let state = Mutex::new(State { line: Line::Open, open: Vec::new() });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let relay = shared.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if relay.state.lock().line == Line::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", broker)) else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let copy = |stream: &TcpStream| stream.try_clone().expect("a socket has a second handle");
                relay.state.lock().open.extend([copy(&near), copy(&far)]);
                for (from, to) in [(copy(&near), copy(&far)), (far, near)] {
                    let relay = relay.clone();
                    std::thread::spawn(move || carry(&relay, from, to));
                }
            }
        });
        Relay { port, shared }
    }

    /// Breaks every connection; new ones end at once.
    pub fn cut(&self) {
        self.set(Line::Cut);
        for stream in self.shared.state.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Holds back every byte.
    pub fn silence(&self) {
        self.set(Line::Silent);
    }

    pub fn mend(&self) {
        self.set(Line::Open);
    }

    fn set(&self, line: Line) {
        self.shared.state.lock().line = line;
        self.shared.changed.notify_all();
    }
}

fn carry(relay: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let mut state = relay.state.lock();
        while state.line == Line::Silent {
            relay.changed.wait(&mut state);
        }
        drop(state);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let ended = [from.peer_addr().ok(), to.peer_addr().ok()];
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    relay.state.lock().open.retain(|stream| {
        let peer = stream.peer_addr().ok();
        peer.is_some() && !ended.contains(&peer)
    });
}

/// Until something listens there.
pub fn listens(port: u16, patience: Duration) -> bool {
    let end = std::time::Instant::now() + patience;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
