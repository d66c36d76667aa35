//! Where the functions' binaries are: in one folder, each as a file of its name, or as a folder of its name with `bootstrap`
//! in it, which is how cargo-lambda lays them out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Absolute paths by name.
pub(super) fn find<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n str>,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    for name in names {
        let file = [folder.join(name).join("bootstrap"), folder.join(name)].into_iter().find(|file| file.is_file());
        let Some(file) = file.and_then(|file| file.canonicalize().ok()) else { return Err(missing(folder, name)) };
        found.insert(name.to_owned(), file);
    }
    Ok(found)
}

fn missing(folder: &Path, name: &str) -> Failure {
    let folder = folder.display();
    Failure::new(format!(
        "{folder} has neither {name} nor {name}/bootstrap; build the functions with `cargo build --release -p streammanager-functions --features lambda`, or name their folder with --functions DIR"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l3_a_binary_is_a_file_or_a_folder_with_bootstrap_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let names = || ["express", "stream"].into_iter();
        std::fs::create_dir(folder.path().join("express")).unwrap();
        std::fs::write(folder.path().join("stream"), "").unwrap();
        let error = find(folder.path(), names()).unwrap_err().to_string();
        assert!(error.contains("neither express nor") && error.contains("cargo build"), "{error}");
        std::fs::write(folder.path().join("express/bootstrap"), "").unwrap();
        let found = find(folder.path(), names()).unwrap();
        assert!(found["express"].ends_with("express/bootstrap") && found["stream"].ends_with("stream"), "{found:?}");
    }
}
