//! Where the functions' binaries are: in one folder, each as a file of its name, or as a folder of its name with `bootstrap`
//! in it, which is how cargo-lambda lays them out.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Absolute paths by name, of what this host's kernel runs: what it does not know, the shell would take for a script.
pub(super) fn find<'n>(
    folder: &Path,
    names: impl Iterator<Item = &'n str>,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    for name in names {
        let file = [folder.join(name).join("bootstrap"), folder.join(name)].into_iter().find(|file| file.is_file());
        let Some(file) = file.and_then(|file| file.canonicalize().ok()) else { return Err(missing(folder, name)) };
        if let Some(problem) = not_run_here(&file) {
            return Err(Failure::new(format!("{} is no program for this host: {problem}", file.display())));
        }
        found.insert(name.to_owned(), file);
    }
    Ok(found)
}

/// The instruction sets that Lambda has, by their numbers in an ELF file.
const MACHINES: [(u16, &str); 2] = [(62, "x86_64"), (183, "aarch64")];

fn not_run_here(file: &Path) -> Option<String> {
    let mut head = [0; 20];
    let read = std::fs::File::open(file).and_then(|mut file| file.read(&mut head));
    let read = match read {
        Ok(read) => &head[..read],
        Err(e) => return Some(e.to_string()),
    };
    if read.starts_with(b"#!") {
        return None;
    }
    match read {
        [0x7f, b'E', b'L', b'F', .., low, high] if read.len() == head.len() => {
            let machine = u16::from_le_bytes([*low, *high]);
            let name = MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name);
            let here = std::env::consts::ARCH;
            (name != Some(here)).then(|| match name {
                Some(name) => format!("it is built for {name}, and this is {here}"),
                None => format!("it is built for machine {machine} of ELF's list, and this is {here}"),
            })
        }
        _ => Some("it is neither an ELF file nor a script that begins with #!".to_owned()),
    }
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
        std::fs::copy(std::env::current_exe().unwrap(), folder.path().join("stream")).unwrap();
        let error = find(folder.path(), names()).unwrap_err().to_string();
        assert!(error.contains("neither express nor") && error.contains("cargo build"), "{error}");
        std::fs::write(folder.path().join("express/bootstrap"), "#!/bin/bash\n").unwrap();
        let found = find(folder.path(), names()).unwrap();
        assert!(found["express"].ends_with("express/bootstrap") && found["stream"].ends_with("stream"), "{found:?}");
    }

    #[test]
    fn l3_what_the_kernel_would_not_run_is_named_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let of_machine =
            |machine: u16| [&b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"[..], &machine.to_le_bytes()].concat();
        let other = if std::env::consts::ARCH == "x86_64" { (183, "aarch64") } else { (62, "x86_64") };
        for (bytes, problem) in [
            (of_machine(other.0), format!("it is built for {}", other.1)),
            (of_machine(243), "it is built for machine 243 of ELF's list".to_owned()),
            (of_machine(62)[..19].to_vec(), "it is neither".to_owned()),
            (b"hello".to_vec(), "it is neither".to_owned()),
            (Vec::new(), "it is neither".to_owned()),
        ] {
            std::fs::write(folder.path().join("express"), bytes).unwrap();
            let error = find(folder.path(), ["express"].into_iter()).unwrap_err().to_string();
            assert!(error.contains("express is no program for this host") && error.contains(&problem), "{error}");
        }
    }
}
