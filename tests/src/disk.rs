//! A small disk of a test's own, which can be filled.

use std::fs::{DirBuilder, File, OpenOptions, remove_file};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Gone with the test.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// In memory; `None` where this user may not mount one.
    pub fn mount(at: PathBuf, mib: u64) -> Option<SmallDisk> {
        DirBuilder::new().mode(0o700).create(&at).unwrap();
        let options = format!("size={mib}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(SmallDisk(at))
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Until not even a page is left.
    pub fn fill(&self) {
        let mut filler = self.filler();
        let bytes = vec![1; 1024 * 1024];
        for piece in [bytes.len(), 4096] {
            while filler.write_all(&bytes[..piece]).is_ok() {}
        }
    }

    /// So many bytes of what is left.
    pub fn take(&self, bytes: usize) {
        self.filler().write_all(&vec![1; bytes]).unwrap();
    }

    /// What was taken is free again.
    pub fn free(&self) {
        remove_file(self.0.join("filler")).unwrap();
    }

    fn filler(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.0.join("filler")).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
