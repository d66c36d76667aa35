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
use kafka_protocol::protocol::StrBytes;

use super::limits::NODE_ID;
use super::settings::{self, SETTINGS, Setting, SettingType};
use super::topics::{Refusal, refusal};
use super::{Node, store_failed, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where a value comes from, as DescribeConfigs numbers it.
const SET_ON_TOPIC: i8 = 1;
const SET_ON_BROKER: i8 = 2;
const STATIC_BROKER: i8 = 4;
const DEFAULT: i8 = 5;
const INCREMENTAL_SET: i8 = 0;
const INCREMENTAL_DELETE: i8 = 1;
const INCREMENTAL_APPEND: i8 = 2;
const INCREMENTAL_SUBTRACT: i8 = 3;

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
                    for config in &mut configs {
                        if !request.include_synonyms {
                            config.synonyms.clear();
                        }
                        if request.include_documentation {
                            config.documentation = documentation_of(&config.name);
                        }
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
            BROKER if is_this_node(name) => {
                let set = self.meta.broker_settings().map_err(cannot_store)?;
                let set =
                    set.iter().map(|(name, value)| broker_config(name, value, SET_ON_BROKER).with_read_only(false));
                let fixed = settings::OF_BROKER.iter().map(|(name, value)| broker_config(name, value, STATIC_BROKER));
                Ok(fixed.chain(set).collect())
            }
            _ => Err(only_topics_and_the_node()),
        }
    }

    pub(super) fn alter_configs(&self, request: AlterConfigsRequest) -> AlterConfigsResponse {
        let responses = request.resources.into_iter().map(|asked| {
            let changed = self.change(asked.resource_type, &asked.resource_name, request.validate_only, |settings| {
                let given = asked.configs.iter();
                *settings = given.filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect();
                Ok(())
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
            let changed = self.change(asked.resource_type, &asked.resource_name, request.validate_only, |settings| {
                asked.configs.iter().try_for_each(|change| apply(change, settings))
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

    /// Changes the settings of a topic, or those that were set on the node itself.
    fn change(
        &self,
        resource_type: i8,
        name: &str,
        only_check: bool,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match resource_type {
            TOPIC => self.change_settings(name, only_check, change),
            BROKER if is_this_node(name) => {
                let mut settings = self.meta.broker_settings().map_err(cannot_store)?;
                change(&mut settings)?;
                settings::check_broker(&settings).map_err(|why| refusal(ResponseError::InvalidConfig, why))?;
                if only_check { Ok(()) } else { self.meta.put_broker_settings(&settings).map_err(cannot_store) }
            }
            _ => Err(only_topics_and_the_node()),
        }
    }
}

/// By its number, or, as the default of all nodes, by no name.
fn is_this_node(name: &str) -> bool {
    name.is_empty() || name == NODE_ID.to_string()
}

fn only_topics_and_the_node() -> Refusal {
    refusal(ResponseError::InvalidRequest, format!("only topics, and the node {NODE_ID}, have settings here"))
}

fn cannot_store(error: redb::Error) -> Refusal {
    refusal(store_failed(error), "the settings cannot be read or stored; the endpoint's log says why")
}

fn apply(change: &AlterableConfig, settings: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    let name = change.name.as_str();
    match (change.config_operation, &change.value) {
        (INCREMENTAL_SET, Some(value)) => drop(settings.insert(name.to_owned(), value.to_string())),
        (INCREMENTAL_DELETE, _) => drop(settings.remove(name)),
        (operation @ (INCREMENTAL_APPEND | INCREMENTAL_SUBTRACT), Some(value)) => {
            let setting = Setting::find(name).filter(|setting| setting.kind() == SettingType::List);
            let setting =
                setting.ok_or_else(|| refusal(ResponseError::InvalidConfig, format!("{name} is not a list")))?;
            let present = settings.get(name).map_or(setting.default, String::as_str);
            let (named, mut parts): (Vec<_>, Vec<_>) =
                (settings::list(value).collect(), settings::list(present).collect());
            parts.retain(|part| !part.is_empty() && !named.contains(part));
            if operation == INCREMENTAL_APPEND {
                parts.extend(named);
            }
            let changed = parts.join(",");
            settings.insert(name.to_owned(), changed);
        }
        _ => {
            let why = format!("{name}: only setting, deleting, appending and subtracting a value are known");
            return Err(refusal(ResponseError::InvalidConfig, why));
        }
    }
    Ok(())
}

/// What a topic's setting changes here.
fn documentation_of(name: &str) -> Option<StrBytes> {
    Setting::find(name).map(|setting| text(setting.documentation()))
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

fn broker_config(name: &str, value: &str, source: i8) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_read_only(true)
        .with_config_source(source)
        .with_config_type(SettingType::String as i8)
        .with_documentation(None)
}
