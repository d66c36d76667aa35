//! The same system on Docker: with the images that `infra/compose.yaml` names, started by testcontainers, and as `up --docker`
//! starts them [L4]. Without Docker's engine it is said that nothing was shown.

use std::process::{Command, Stdio};

use streammanager_tests::skip;
use streammanager_tests::system::Start;
use tempfile::tempdir;
use testcontainers_modules::kafka::apache::{KAFKA_PORT, Kafka};
use testcontainers_modules::localstack::LocalStack;
use testcontainers_modules::testcontainers::ImageExt;
use testcontainers_modules::testcontainers::runners::AsyncRunner;

use super::aws::{own_name, template};
use super::the_whole_path;

const COMPOSE: &str = include_str!("../../../infra/compose.yaml");

fn answers(arguments: &[&str]) -> bool {
    let quiet = Command::new("docker").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Whether the engine is there with the images, or can get them.
fn has_docker(what: &str) -> bool {
    if !answers(&["info"]) {
        skip(what, "no Docker engine answers");
        return false;
    }
    let images = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("image: ")).take(2);
    let missing = images.into_iter().find(|image| !answers(&["image", "inspect", image]) && !answers(&["pull", image]));
    if let Some(image) = missing {
        skip(what, &format!("the Docker engine has no image {image} and cannot pull it"));
    }
    missing.is_none()
}

/// The tag of an image that the compose file names.
fn tag(image: &str) -> &'static str {
    let named = COMPOSE.lines().find_map(|line| line.trim().strip_prefix("image: ")?.strip_prefix(image));
    named.and_then(|rest| rest.strip_prefix(':')).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn l4_the_whole_path_on_containers() {
    if !has_docker("end to end on containers") {
        return;
    }
    let kafka = Kafka::default().with_jvm_image().with_tag(tag("apache/kafka")).start().await.unwrap();
    let localstack = LocalStack::default().with_tag(tag("localstack/localstack"));
    let localstack = localstack.with_env_var("SQS_ENDPOINT_STRATEGY", "path").start().await.unwrap();
    let port = kafka.get_host_port_ipv4(KAFKA_PORT).await.unwrap();
    let aws = format!("http://127.0.0.1:{}", localstack.get_host_port_ipv4(4566).await.unwrap());
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[]);
    let start = Start { aws, kafka: format!("127.0.0.1:{port}"), template, ..Start::quiet(folder.path()) };
    the_whole_path(start, &format!("{name}-")).await;
}

/// Ends the containers also when the test fails.
struct Down(std::path::PathBuf);

impl Drop for Down {
    fn drop(&mut self) {
        let file = self.0.join("docker/compose.yaml");
        let _ = Command::new("docker").args(["compose", "-f"]).arg(file).args(["down", "-v"]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l4_up_starts_its_containers_by_itself() {
    if !has_docker("up --docker") {
        return;
    }
    if !answers(&["compose", "version"]) {
        return skip("up --docker", "Docker has no compose plugin");
    }
    let (folder, name) = (tempdir().unwrap(), own_name());
    let template = template(folder.path(), &name, &[]);
    let start = Start { docker: true, template, ..Start::quiet(folder.path()) };
    let _down = Down(start.data.clone());
    the_whole_path(start, &format!("{name}-")).await;
}
