//! The streams file of a host [L1]: it seeds an empty folder. Afterwards the operator's changes stand, and where the file
//! differs from them that is said, never applied unasked.

use std::path::Path;

use bytes::Bytes;

use crate::app::App;
use crate::error::BackendError;
use crate::schedule::file::StreamsFile;
use crate::schedule::streams::{self, Diff, Registered};
use crate::schedule::{mappings, mqtt};
use crate::store::{Expect, Key};

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seeded {
    /// All of its streams were registered.
    Applied {
        /// How many.
        streams: usize,
    },
    /// Streams were registered before; what applying the file with `--prune` would change.
    Kept {
        /// How many there are.
        registered: usize,
        /// What `--prune` would change.
        would: Diff,
    },
}

/// Registers the file's streams where none ever were.
pub async fn seed(app: &App, file: &StreamsFile) -> Result<Seeded, BackendError> {
    // Whoever removed every stream did not want them back.
    let seeded = Key::new("stream-seed", "done");
    let registered = streams::list(&*app.store).await?;
    if !registered.is_empty() || app.store.get(&seeded).await?.is_some() {
        let mut would = difference(&registered, file);
        let (sensors, brokers) = (mappings::list(&*app.store).await?, mqtt::list(&*app.store).await?);
        would.sensors = (sensors != file.sensors).then_some(file.sensors.len());
        would.mqtt = (brokers != file.mqtt).then_some(file.mqtt.len());
        return Ok(Seeded::Kept { registered: registered.len(), would });
    }
    streams::apply(app, file, false).await?;
    if !(file.streams.is_empty() && file.sensors.is_empty() && file.mqtt.is_empty()) {
        app.store.put_if(&seeded, Bytes::new(), Expect::Any, None).await.map_err(|e| e.unexpected("streams"))?;
    }
    Ok(Seeded::Applied { streams: file.streams.len() })
}

fn difference(registered: &[Registered], file: &StreamsFile) -> Diff {
    let mut would = Diff::default();
    for spec in &file.streams {
        match registered.iter().find(|registered| registered.spec.id == spec.id) {
            None => would.added.push(spec.id.clone()),
            Some(registered) if registered.spec == *spec => would.unchanged.push(spec.id.clone()),
            Some(_) => would.changed.push(spec.id.clone()),
        }
    }
    let unnamed = registered.iter().map(|registered| &registered.spec.id);
    would.removed = unnamed.filter(|id| !file.streams.iter().any(|spec| spec.id == **id)).cloned().collect();
    would
}

impl Seeded {
    /// How many streams there are now.
    pub fn registered(&self) -> usize {
        match self {
            Seeded::Applied { streams } => *streams,
            Seeded::Kept { registered, .. } => *registered,
        }
    }

    /// What the file says otherwise than what is registered; `None` when it says the same.
    pub fn difference(&self) -> Option<&Diff> {
        match self {
            Seeded::Kept { would, .. } if !would.changes_nothing() => Some(would),
            Seeded::Kept { .. } | Seeded::Applied { .. } => None,
        }
    }

    /// The difference for people, with the command that applies it; `file`: none for the streams in this program.
    pub fn lines(&self, file: Option<&Path>) -> Vec<String> {
        let Some(would) = self.difference() else { return Vec::new() };
        let (named, argument) = match file {
            Some(file) => (file.display().to_string(), format!(" {}", file.display())),
            None => ("the streams file in this program".to_owned(), String::new()),
        };
        let mut lines = vec![format!("{named} differs from the registered streams, which stay as they are:")];
        for (mark, ids, what) in [
            ('+', &would.added, "is not registered"),
            ('~', &would.changed, "is registered with other settings"),
            ('-', &would.removed, "is registered and not in it"),
        ] {
            lines.extend(ids.iter().map(|id| format!("  {mark} {id} {what}")));
        }
        for (section, what, entries) in [("sensors", "mappings", would.sensors), ("mqtt", "brokers", would.mqtt)] {
            lines.extend(entries.map(|n| format!("  ~ {section}: its {n} {what} are not those that are registered")));
        }
        let removes = !would.removed.is_empty() || would.sensors == Some(0) || would.mqtt == Some(0);
        let prune = if removes { ", with --prune also removals" } else { "" };
        lines.push(format!("  `streammanager streams apply{argument}` applies it{prune}"));
        lines
    }
}
