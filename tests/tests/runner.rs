//! The test command `tests/run` itself: a step that cannot run is a failure, never a silent pass.

use std::process::Command;

use streammanager_tests::workspace;
use tempfile::tempdir;

#[test]
fn a_missing_template_lint_fails_its_step() {
    let folder = tempdir().unwrap();
    let here = folder.path().join("tests");
    std::fs::create_dir_all(here.join("services")).unwrap();
    for file in ["run", "services/lib.sh"] {
        std::fs::copy(workspace().join("tests").join(file), here.join(file)).unwrap();
    }
    let ended = Command::new(here.join("run")).arg("infra").output().unwrap();
    let says = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(1), "{says}");
    assert!(says.contains("FAILED infra"), "{says}");
}
