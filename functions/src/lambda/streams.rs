//! The streams of Kinesis as a function writes to them. They are the stack's, or were there before it: a function makes none.

use std::sync::Arc;

use lambda_runtime::Error;
use streammanager::aws::Aws;
use streammanager::settings::{BadSetting, Settings, variable};
use streammanager::sink::Sink;

use super::{Environment, needed};

/// Where Kinesis answers, if elsewhere than the rest of AWS: as AWS's own clients name it.
const ENDPOINT: &str = "AWS_ENDPOINT_URL_KINESIS";
const GROUPS: &str = "CONSUMER_GROUPS";

/// As the environment says, its streams' names prefixed as topics are.
pub(super) async fn sink(aws: &Aws, settings: &Settings, environment: &Environment) -> Result<Arc<dyn Sink>, Error> {
    if variable(environment, GROUPS).is_some() {
        let rule = "must not be set where SINK is kinesis, which keeps no positions of its consumers";
        return Err(BadSetting { name: GROUPS.into(), rule: rule.into() }.into());
    }
    let elsewhere = match variable(environment, ENDPOINT) {
        Some(url) => Some(Aws::connect(Some(url), needed(environment, "AWS_REGION")?).await),
        None => None,
    };
    let sink = elsewhere.as_ref().unwrap_or(aws).sink(&settings.topic_prefix)?;
    Ok(Arc::new(sink.on_given_streams()))
}
