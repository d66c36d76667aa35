//! DescribeConfigs, AlterConfigs and IncrementalAlterConfigs. Which settings there are is said in `settings`.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, incremental_alter_configs_response,
};

use super::limits::NODE_ID;
use super::settings::{SETTINGS, Setting, SettingType};
use super::topics::{Refusal, refusal};
use super::{Node, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a value comes from, as DescribeConfigs numbers it.
const SET_ON_TOPIC: i8 = 1;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
const INCREMENTAL_SET: i8 = 0;
const INCREMENTAL_DELETE: i8 = 1;

/// What a client may ask the node itself about; none of it can be changed.
const OF_BROKER: &[(&str, &str)] =
    &[("auto.create.topics.enable", "true"), ("default.replication.factor", "1"), ("num.partitions", "1")];

impl Node {
    pub(super) fn describe_configs(&self, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let results = request.resources.into_iter().map(|asked| {
            let answer = DescribeConfigsResult::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name.clone())
                .with_error_message(None);
            match self.configs_of(&asked) {
                Ok(mut configs) => {
                    if let Some(keys) = &asked.configuration_keys
                        && !keys.is_empty()
                    {
                        configs.retain(|config| keys.contains(&config.name));
                    }
                    if !request.include_synonyms {
                        configs.iter_mut().for_each(|config| config.synonyms.clear());
                    }
                    answer.with_configs(configs)
                }
                Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
            }
        });
        DescribeConfigsResponse::default().with_results(results.collect())
    }

    fn configs_of(&self, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        let name = asked.resource_name.as_str();
        match asked.resource_type {
            TOPIC => {
                let topic =
                    self.topics.get(name).map_err(|error| refusal(error, format!("there is no topic {name}")))?;
                Ok(SETTINGS.iter().map(|setting| config_of(setting, &topic.row.settings)).collect())
            }
            BROKER if name.is_empty() || name == NODE_ID.to_string() => {
                Ok(OF_BROKER.iter().map(|(name, value)| broker_config(name, value)).collect())
            }
            _ => Err(refusal(ResponseError::InvalidRequest, "only topics, and the node 1, have settings here")),
        }
    }

    pub(super) fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let responses = request.resources.into_iter().map(|asked| {
            let changed = only_topics(asked.resource_type).and_then(|()| {
                self.change_settings(&asked.resource_name, request.validate_only, |settings| {
                    let given = asked.configs.iter();
                    *settings =
                        given.filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect();
                    Ok(())
                })
            });
            let answer = AlterConfigsResourceResponse::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name.clone());
            match changed {
                Ok(()) => answer.with_error_message(None),
                Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
            }
        });
        AlterConfigsResponse::default().with_responses(responses.collect())
    }

    pub(super) fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigsRequest,
    ) -> IncrementalAlterConfigsResponse {
        let responses = request.resources.into_iter().map(|asked| {
            let changed = only_topics(asked.resource_type).and_then(|()| {
                self.change_settings(&asked.resource_name, request.validate_only, |settings| {
                    asked.configs.iter().try_for_each(|change| apply(change, settings))
                })
            });
            let answer = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name.clone());
            match changed {
                Ok(()) => answer.with_error_message(None),
                Err((error, why)) => answer.with_error_code(error.code()).with_error_message(Some(text(why))),
            }
        });
        IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
    }
}

fn only_topics(resource_type: i8) -> Result<(), Refusal> {
    match resource_type {
        TOPIC => Ok(()),
        _ => Err(refusal(ResponseError::InvalidRequest, "only a topic's settings can be changed")),
    }
}

fn apply(change: &AlterableConfig, settings: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    match (change.config_operation, &change.value) {
        (INCREMENTAL_SET, Some(value)) => drop(settings.insert(change.name.to_string(), value.to_string())),
        (INCREMENTAL_DELETE, _) => drop(settings.remove(change.name.as_str())),
        _ => return Err(refusal(ResponseError::InvalidConfig, format!("{} is not a list", change.name.as_str()))),
    }
    Ok(())
}

fn config_of(setting: &Setting, settings: &BTreeMap<String, String>) -> DescribeConfigsResourceResult {
    let default = (setting.default, DEFAULT);
    let set = settings.get(setting.name).map(|value| (value.as_str(), SET_ON_TOPIC));
    let synonyms = set.into_iter().chain([default]).map(|(value, source)| {
        DescribeConfigsSynonym::default()
            .with_name(text(setting.name))
            .with_value(Some(text(value)))
            .with_source(source)
    });
    let (value, source) = set.unwrap_or(default);
    DescribeConfigsResourceResult::default()
        .with_name(text(setting.name))
        .with_value(Some(text(value)))
        .with_config_source(source)
        .with_config_type(setting.kind() as i8)
        .with_documentation(None)
        .with_synonyms(synonyms.collect())
}

fn broker_config(name: &'static str, value: &'static str) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_read_only(true)
        .with_config_source(STATIC_BROKER)
        .with_config_type(SettingType::String as i8)
        .with_documentation(None)
}
