//! Clients that are not ours and not linked: kcat from the distribution, Kafka's own Java tools.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::target::Target;

/// kcat's standard output, or `None` if it is not installed.
pub fn kcat(target: &Target, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("kcat");
    command.args(["-b", &target.address]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("kcat: {error}"),
    };
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("kcat reads its input");
    let output = child.wait_with_output().expect("kcat ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// What the program of a Go service with franz-go found out about the broker; `None` if it is not built.
pub fn franz_go(target: &Target, topic: &str) -> Option<Result<(), String>> {
    let program = crate::franz_go()?;
    let output = Command::new(&program).args([&*target.address, topic]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    Some(if said == "ok\n" { Ok(()) } else { Err(said.into_owned()) })
}

/// Kafka's own command-line tools.
pub struct JavaTools(PathBuf);

pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
pub const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
pub const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
pub const CONFIGS: &str = "kafka.admin.ConfigCommand";
pub const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";

impl JavaTools {
    /// `Err` says what is missing.
    pub fn find() -> Result<Self, String> {
        let libs = crate::kafka_libs().ok_or("STREAMMANAGER_TEST_KAFKA_LIBS is not set")?;
        let jars = std::fs::read_dir(&libs).map_err(|error| format!("{}: {error}", libs.display()))?;
        let tools = |name: &str| name.starts_with("kafka-tools-") && !name.starts_with("kafka-tools-api");
        if !jars.flatten().any(|jar| jar.file_name().to_str().is_some_and(tools)) {
            return Err(format!("{} has no kafka-tools jar", libs.display()));
        }
        Ok(Self(libs))
    }

    /// The tool's standard output; it must succeed.
    pub fn run(&self, target: &Target, class: &str, arguments: &[&str]) -> String {
        self.java(class, &[&["--bootstrap-server", &target.address], arguments].concat())
    }

    /// Runs a program of one file, `tests/services/java/NAME.java`, with the broker's address as its first argument.
    pub fn run_file(&self, target: &Target, name: &str, arguments: &[&str]) -> String {
        let file = crate::workspace().join("tests/services/java").join(format!("{name}.java"));
        self.java(file.to_str().expect("text"), &[&[&*target.address], arguments].concat())
    }

    fn java(&self, class: &str, arguments: &[&str]) -> String {
        let output = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(self.0.join("*"))
            .arg(class)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("java: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class} {arguments:?}: {text}{errors}");
        text
    }
}
