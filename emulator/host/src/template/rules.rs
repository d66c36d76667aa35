//! IoT topic rules: what is selected from which topics, and where it goes.

use super::error::Fault;
use super::iot_sql::{self, Text};
use super::model::{Action, TopicRule};
use super::properties::Properties;
use super::resources::queue_named;
use super::scope::{Scope, kind};
use super::unsupported::Gathered;

/// The only dialect that reads a payload of any bytes.
const DIALECT: &str = "2016-03-23";

pub(super) fn rule(
    scope: &Scope<'_>,
    id: &str,
    properties: &Properties<'_>,
    gathered: &mut Gathered,
) -> Result<TopicRule, Fault> {
    let payload = properties.required("TopicRulePayload", properties.inner("TopicRulePayload")?)?;
    let query = query(&payload)?;
    let mut actions = Vec::new();
    for action in payload.inners("Actions")? {
        actions.extend(self::action(scope, id, &action, gathered)?);
    }
    let error_action = match payload.inner("ErrorAction")? {
        Some(action) => self::action(scope, id, &action, gathered)?,
        None => None,
    };
    Ok(TopicRule {
        logical_id: id.into(),
        name: scope.name_of(id)?,
        select: query.select,
        filter: query.filter,
        actions,
        error_action,
        enabled: !payload.flag("RuleDisabled")?.unwrap_or(false),
    })
}

/// `Sql` and its dialect, which a rule and a function's `IoTRule` event write alike.
pub(super) fn query(payload: &Properties<'_>) -> Result<iot_sql::Query, Fault> {
    let dialect = payload.text("AwsIotSqlVersion")?;
    if dialect.as_deref() != Some(DIALECT) {
        return Err(payload.fault("AwsIotSqlVersion", format!("must be {DIALECT:?}: the others cannot read any bytes")));
    }
    let sql = payload.required("Sql", payload.text("Sql")?)?;
    iot_sql::parse(&sql).map_err(|error| payload.fault("Sql", error))
}

fn action(
    scope: &Scope<'_>,
    id: &str,
    action: &Properties<'_>,
    gathered: &mut Gathered,
) -> Result<Option<Action>, Fault> {
    let mut names = action.names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(action.fault("", "must name exactly one kind of action"));
    };
    let to = action.required(name, action.inner(name)?)?;
    Ok(match name {
        "Kinesis" => {
            let stream = to.required("StreamName", to.text("StreamName")?)?;
            let known = scope.named(kind::STREAM, &stream)?;
            known.ok_or_else(|| to.fault("StreamName", format!("{stream:?} is not a stream of this template")))?;
            let key = to.text("PartitionKey")?;
            let key = key.map(|key| Text::parse(&key).map_err(|error| to.fault("PartitionKey", error))).transpose()?;
            Some(Action::Kinesis { stream, partition_key: key })
        }
        "Lambda" => {
            let arn = to.required("FunctionArn", to.text("FunctionArn")?)?;
            let function = scope.named(kind::FUNCTION, &arn)?;
            let function = function
                .ok_or_else(|| to.fault("FunctionArn", format!("{arn:?} is not a function of this template")))?;
            Some(Action::Lambda { function: function.into() })
        }
        "Sqs" => {
            let url = to.required("QueueUrl", to.text("QueueUrl")?)?;
            let queue = queue_named(scope, &to, "QueueUrl", &url)?;
            Some(Action::Queue { queue, base64: to.flag("UseBase64")?.unwrap_or(false) })
        }
        other => {
            gathered.say(id, &format!("{other} action"), "does nothing");
            None
        }
    })
}
