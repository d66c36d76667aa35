//! The part of AWS IoT's SQL (2016-03-23) that selects what a rule hands on: a statement parsed once, and its result for
//! one message. Matching topics against the filter is the MQTT endpoint's work.

mod parse;

use std::cell::OnceCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

pub use self::parse::parse;

/// Bounds of a statement; AWS allows 8,192 characters. Nesting is bounded because the parser is recursive.
const STATEMENT_BYTES: usize = 8192;
const NESTING: usize = 32;
/// AWS allows a topic filter seven slashes and 256 bytes.
const FILTER_BYTES: usize = 256;
const FILTER_SLASHES: usize = 7;

/// What is wrong with a statement, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SqlError(String);

/// A statement's two halves.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is selected, and under which condition.
    pub select: Select,
    /// Topic filter of the FROM clause.
    pub filter: String,
}

/// One published message, as the functions of a statement see it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// The topic that it was published on.
    pub topic: &'m str,
    /// Its bytes.
    pub payload: &'m [u8],
    /// Who the publisher proved to be, such as a certificate's fingerprint.
    pub principal: &'m str,
    /// The client id, which the client chose itself.
    pub client: &'m str,
    /// Milliseconds since 1970, when the message arrived.
    pub now_ms: u64,
}

/// What is selected, and under which condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    columns: Vec<Column>,
    condition: Option<Expression>,
}

impl Select {
    /// The event for the rule's actions; none if WHERE does not hold. An error if `*` asks for the payload's own fields and
    /// it is not JSON object.
    pub fn evaluate(&self, message: &Message<'_>) -> Result<Option<Value>, SqlError> {
        let context = Context { message, json: OnceCell::new() };
        if let Some(condition) = &self.condition
            && context.value(condition) != Some(Value::Bool(true))
        {
            return Ok(None);
        }
        let mut event = Map::new();
        for column in &self.columns {
            match column {
                Column::Payload => match context.json() {
                    Some(Value::Object(fields)) => event.extend(fields.clone()),
                    _ => return Err(SqlError("the payload is not a JSON object, which SELECT * needs".into())),
                },
                Column::Named(expression, name) => {
                    // What is undefined is left out.
                    if let Some(value) = context.value(expression) {
                        event.insert(name.clone(), value);
                    }
                }
            }
        }
        Ok(Some(Value::Object(event)))
    }
}

/// A text of an action with `${…}` parts, such as a partition key.
#[derive(Debug, Clone, PartialEq)]
pub struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Expression(Expression),
}

impl Text {
    /// A text with `${…}` in it, as rule actions use it.
    pub fn parse(text: &str) -> Result<Text, SqlError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (inside, after) = after.split_once('}').ok_or_else(|| SqlError("a ${ has no }".into()))?;
            if !before.is_empty() {
                parts.push(Part::Literal(before.into()));
            }
            parts.push(Part::Expression(parse::expression(inside)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        Ok(Text(parts))
    }

    /// What is undefined for this message is left empty.
    pub fn evaluate(&self, message: &Message<'_>) -> String {
        let context = Context { message, json: OnceCell::new() };
        let part = |part: &Part| match part {
            Part::Literal(literal) => literal.clone(),
            Part::Expression(expression) => match context.value(expression) {
                Some(Value::String(text)) => text,
                Some(other) => other.to_string(),
                None => String::new(),
            },
        };
        self.0.iter().map(part).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Column {
    /// `*`
    Payload,
    Named(Expression, String),
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Literal(Value),
    /// `encode(*, 'base64')`: the payload's bytes, whatever they are.
    PayloadBase64,
    Topic,
    /// `topic(n)`, from 1.
    TopicLevel(usize),
    Principal,
    Client,
    Timestamp,
    /// A path into the payload's JSON.
    Field(Vec<String>),
    Compare(Box<Expression>, Comparison, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

struct Context<'m> {
    message: &'m Message<'m>,
    /// Parsed when first asked for: most rules never ask.
    json: OnceCell<Option<Value>>,
}

impl Context<'_> {
    fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| serde_json::from_slice(self.message.payload).ok()).as_ref()
    }

    /// None is SQL's Undefined.
    fn value(&self, expression: &Expression) -> Option<Value> {
        let flag = |expression| match self.value(expression) {
            Some(Value::Bool(flag)) => Some(flag),
            Some(Value::String(text)) => {
                [true, false].into_iter().find(|flag| text.eq_ignore_ascii_case(&flag.to_string()))
            }
            _ => None,
        };
        match expression {
            Expression::Literal(value) => Some(value.clone()),
            Expression::PayloadBase64 => Some(STANDARD.encode(self.message.payload).into()),
            Expression::Topic => Some(self.message.topic.into()),
            Expression::TopicLevel(level) => self.message.topic.split('/').nth(level - 1).map(Value::from),
            Expression::Principal => Some(self.message.principal.into()),
            Expression::Client => Some(self.message.client.into()),
            Expression::Timestamp => Some(self.message.now_ms.into()),
            Expression::Field(path) => {
                path.iter().try_fold(self.json()?, |value, key| value.as_object()?.get(key)).cloned()
            }
            Expression::Compare(left, how, right) => {
                compare(&self.value(left)?, *how, &self.value(right)?).map(Value::Bool)
            }
            Expression::And(left, right) => Some((flag(left)? && flag(right)?).into()),
            Expression::Or(left, right) => match (flag(left), flag(right)) {
                (Some(true), _) | (_, Some(true)) => Some(true.into()),
                (Some(false), Some(false)) => Some(false.into()),
                _ => None,
            },
            Expression::Not(inner) => Some((!flag(inner)?).into()),
        }
    }
}

/// Values of different types are different. What is ordered are numbers, and texts that are written as one; anything else is
/// Undefined there.
fn compare(left: &Value, how: Comparison, right: &Value) -> Option<bool> {
    let equal = || match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    };
    let order = || decimal(left)?.partial_cmp(&decimal(right)?);
    Some(match how {
        Comparison::Equal => equal(),
        Comparison::NotEqual => !equal(),
        Comparison::Less => order()?.is_lt(),
        Comparison::LessOrEqual => order()?.is_le(),
        Comparison::Greater => order()?.is_gt(),
        Comparison::GreaterOrEqual => order()?.is_ge(),
    })
}

/// As AWS IoT converts to a Decimal.
fn decimal(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if is_decimal(text) => text.parse().ok(),
        _ => None,
    }
}

/// `-?\d+(\.\d+)?(E-?\d+)?`, with either kind of E.
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix('-').unwrap_or(text).to_owned();
    let (number, exponent) = text.split_once(['E', 'e']).map_or((text, None), |(number, power)| (number, Some(power)));
    let number = unsigned(number);
    let (whole, part) = number.split_once('.').map_or((&number[..], None), |(whole, part)| (whole, Some(part)));
    digits(whole) && part.is_none_or(digits) && exponent.is_none_or(|power| digits(&unsigned(power)))
}

#[cfg(test)]
mod tests;
