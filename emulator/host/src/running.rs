//! Which system runs for this user: one small file that `up` writes and every operator's command reads, so that nobody has to
//! repeat `up`'s addresses and folder. It holds no key: that stays in the data folder.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the parts of a running system are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Base URL of the HTTP API.
    pub endpoint: String,
    /// Data folder, absolute.
    pub data: PathBuf,
    /// Kafka brokers, HOST:PORT with commas between; none where the sink is another one.
    #[serde(default)]
    pub kafka: Option<String>,
    /// The MQTT endpoint, HOST:PORT; none in what an older version noted.
    #[serde(default)]
    pub mqtt: Option<String>,
}

/// The file's entry of one system; taken back when dropped, unless another system was started since.
#[derive(Debug)]
pub struct Noted {
    file: PathBuf,
    running: Running,
}

/// `$XDG_STATE_HOME/streammanager/running.json`, else below `~/.local/state`; none for a user without a home.
pub fn file() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("streammanager/running.json"))
}

/// The system that was started last for this user; it may have ended without taking its entry back.
pub fn last() -> Option<Running> {
    read(&file()?)
}

/// Notes a system that has started.
///
/// # Errors
/// What keeps the file from being written; the system runs all the same.
pub fn note(running: Running) -> io::Result<Option<Noted>> {
    file().map(|file| write(file, running)).transpose()
}

fn read(file: &Path) -> Option<Running> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn write(file: PathBuf, running: Running) -> io::Result<Noted> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Complete before it has its name: a command may read at any moment.
    let partial = folder.join(format!("running.json.{}", std::process::id()));
    std::fs::write(&partial, serde_json::to_vec(&running)?)?;
    std::fs::rename(&partial, &file)?;
    Ok(Noted { file, running })
}

impl Drop for Noted {
    fn drop(&mut self) {
        if read(&self.file).as_ref() == Some(&self.running) {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_the_last_systems_and_only_its_own_end_takes_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/running.json");
        let system = |port: u16| Running {
            endpoint: format!("http://127.0.0.1:{port}"),
            data: "/srv/data".into(),
            kafka: Some("127.0.0.1:9092".into()),
            mqtt: Some("127.0.0.1:1883".into()),
        };
        let first = write(file.clone(), system(1)).unwrap();
        let second = write(file.clone(), system(2)).unwrap();
        drop(first);
        assert_eq!(read(&file), Some(system(2)));
        drop(second);
        assert_eq!(read(&file), None);
        std::fs::write(&file, "half").unwrap();
        assert_eq!(read(&file), None, "what cannot be read names no system");
    }
}
