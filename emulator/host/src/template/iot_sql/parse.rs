//! From a statement's text to its columns and condition. What is not understood is refused by name, never skipped: a rule
//! that silently selected less would lose records.

use serde_json::Value;

use super::{
    Column, Comparison, Expression, FILTER_BYTES, FILTER_SLASHES, NESTING, Query, STATEMENT_BYTES, Select, SqlError,
};

/// `SELECT … FROM 'filter' [WHERE …]`
pub fn parse(sql: &str) -> Result<Query, SqlError> {
    let mut parser = Parser::new(sql)?;
    parser.expect_word("SELECT")?;
    let mut columns = vec![parser.column()?];
    while parser.take(&Token::Sign(",")) {
        columns.push(parser.column()?);
    }
    parser.expect_word("FROM")?;
    let filter = match parser.next() {
        Some(Token::Text(filter)) => checked_filter(filter)?,
        other => return Err(unexpected("FROM needs a topic filter in quotes", other.as_ref())),
    };
    let condition = if parser.take_word("WHERE") { Some(parser.any_of(0)?) } else { None };
    parser.end()?;
    Ok(Query { select: Select { columns, condition }, filter })
}

pub(super) fn expression(text: &str) -> Result<Expression, SqlError> {
    let mut parser = Parser::new(text)?;
    let expression = parser.any_of(0)?;
    parser.end()?;
    Ok(expression)
}

fn checked_filter(filter: String) -> Result<String, SqlError> {
    let refuse = |rule: &str| Err(SqlError(format!("topic filter {filter:?}: {rule}")));
    if filter.is_empty() || filter.len() > FILTER_BYTES || filter.contains('\0') {
        return refuse("must have 1 to 256 bytes and no NUL");
    }
    if filter.matches('/').count() > FILTER_SLASHES {
        return refuse("has more than 7 slashes");
    }
    let levels: Vec<_> = filter.split('/').collect();
    if levels.iter().any(|level| level.contains(['+', '#']) && level.len() > 1) {
        return refuse("+ and # must be whole levels");
    }
    if levels[..levels.len() - 1].contains(&"#") {
        return refuse("# must be the last level");
    }
    Ok(filter)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Sign(&'static str),
}

/// Longer signs first.
const SIGNS: [&str; 12] = ["<>", "!=", "<=", ">=", "<", ">", "=", "*", ",", "(", ")", "."];

fn tokens(text: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let inside = &rest[1..];
                let end = inside.find(first).ok_or_else(|| SqlError(format!("no closing {first} after {inside:?}")))?;
                tokens.push(Token::Text(inside[..end].into()));
                end + 2
            }
            '0'..='9' | '-' => {
                let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| end + 1);
                let number =
                    rest[..end].parse().map_err(|_| SqlError(format!("{:?} is not a number", &rest[..end])))?;
                tokens.push(Token::Number(number));
                end
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..end].into()));
                end
            }
            _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    tokens.push(Token::Sign(sign));
                    sign.len()
                }
                None => return Err(SqlError(format!("{first:?} is not understood here"))),
            },
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn new(text: &str) -> Result<Parser, SqlError> {
        if text.len() > STATEMENT_BYTES {
            return Err(SqlError(format!("{} bytes; a statement has at most {STATEMENT_BYTES}", text.len())));
        }
        Ok(Parser { tokens: tokens(text)?.into_iter().peekable() })
    }

    fn column(&mut self) -> Result<Column, SqlError> {
        if self.take(&Token::Sign("*")) {
            return Ok(Column::Payload);
        }
        let expression = self.any_of(0)?;
        if self.take_word("AS") {
            let name = self.name("AS needs a name")?;
            if self.tokens.peek() == Some(&Token::Sign(".")) {
                return Err(SqlError(format!("AS {name}.…: nested names are not supported")));
            }
            return Ok(Column::Named(expression, name));
        }
        match &expression {
            Expression::Field(path) => {
                let name = path.last().cloned().unwrap_or_default();
                Ok(Column::Named(expression, name))
            }
            _ => Err(SqlError("a column that is not a field of the payload needs AS and a name".into())),
        }
    }

    fn any_of(&mut self, depth: usize) -> Result<Expression, SqlError> {
        let mut left = self.all_of(depth)?;
        while self.take_word("OR") {
            left = Expression::Or(Box::new(left), Box::new(self.all_of(depth)?));
        }
        Ok(left)
    }

    fn all_of(&mut self, depth: usize) -> Result<Expression, SqlError> {
        let mut left = self.negation(depth)?;
        while self.take_word("AND") {
            left = Expression::And(Box::new(left), Box::new(self.negation(depth)?));
        }
        Ok(left)
    }

    fn negation(&mut self, depth: usize) -> Result<Expression, SqlError> {
        if depth > NESTING {
            return Err(SqlError(format!("nested more than {NESTING} deep")));
        }
        if self.take_word("NOT") {
            return Ok(Expression::Not(Box::new(self.negation(depth + 1)?)));
        }
        let left = self.operand(depth)?;
        let how = match self.tokens.peek() {
            Some(Token::Sign("=")) => Comparison::Equal,
            Some(Token::Sign("<>" | "!=")) => Comparison::NotEqual,
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::LessOrEqual,
            Some(Token::Sign(">")) => Comparison::Greater,
            Some(Token::Sign(">=")) => Comparison::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.next();
        Ok(Expression::Compare(Box::new(left), how, Box::new(self.operand(depth)?)))
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, SqlError> {
        match self.next() {
            Some(Token::Text(text)) => Ok(Expression::Literal(text.into())),
            Some(Token::Number(number)) => Ok(Expression::Literal(Value::Number(number))),
            Some(Token::Sign("(")) => {
                let inside = self.any_of(depth + 1)?;
                self.expect(")")?;
                Ok(inside)
            }
            Some(Token::Word(word)) if self.take(&Token::Sign("(")) => self.function(&word),
            Some(Token::Word(word)) => match word.to_uppercase().as_str() {
                "TRUE" => Ok(Expression::Literal(true.into())),
                "FALSE" => Ok(Expression::Literal(false.into())),
                "NULL" => Ok(Expression::Literal(Value::Null)),
                "SELECT" | "FROM" | "WHERE" | "AS" | "AND" | "OR" | "CASE" => {
                    Err(SqlError(format!("{word} stands where a value should")))
                }
                _ => {
                    let mut path = vec![word];
                    while self.take(&Token::Sign(".")) {
                        path.push(self.name("a dot needs a field's name after it")?);
                    }
                    Ok(Expression::Field(path))
                }
            },
            other => Err(unexpected("a value is missing", other.as_ref())),
        }
    }

    /// After the opening bracket.
    fn function(&mut self, name: &str) -> Result<Expression, SqlError> {
        let expression = match name.to_lowercase().as_str() {
            "encode" => {
                let whole = self.take(&Token::Sign("*")) && self.take(&Token::Sign(","));
                match (whole, self.next()) {
                    (true, Some(Token::Text(how))) if how == "base64" => Expression::PayloadBase64,
                    _ => return Err(SqlError("encode() is only supported as encode(*, 'base64')".into())),
                }
            }
            "topic" => match self.tokens.peek() {
                Some(Token::Number(number)) => {
                    let level = number.as_u64().filter(|level| *level > 0);
                    let level = level.ok_or_else(|| SqlError("topic(n) counts its levels from 1".into()))?;
                    self.next();
                    Expression::TopicLevel(level as usize)
                }
                _ => Expression::Topic,
            },
            "principal" => Expression::Principal,
            "clientid" => Expression::Client,
            "timestamp" => Expression::Timestamp,
            _ => {
                return Err(SqlError(format!(
                    "function {name}() is not supported; there are encode(*, 'base64'), topic(), topic(n), \
                     principal(), clientid() and timestamp()"
                )));
            }
        };
        self.expect(")")?;
        Ok(expression)
    }

    fn name(&mut self, otherwise: &str) -> Result<String, SqlError> {
        match self.next() {
            Some(Token::Word(name)) => Ok(name),
            other => Err(unexpected(otherwise, other.as_ref())),
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.tokens.next()
    }

    fn take(&mut self, token: &Token) -> bool {
        self.tokens.next_if_eq(token).is_some()
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word))).is_some()
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), SqlError> {
        match self.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            other => Err(unexpected(&format!("{sign} is missing"), other.as_ref())),
        }
    }

    fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.take_word(word) {
            return Ok(());
        }
        let found = self.next();
        Err(unexpected(&format!("{word} is missing"), found.as_ref()))
    }

    fn end(&mut self) -> Result<(), SqlError> {
        match self.next() {
            None => Ok(()),
            Some(token) => Err(unexpected("the statement should have ended", Some(&token))),
        }
    }
}

fn unexpected(what: &str, found: Option<&Token>) -> SqlError {
    SqlError(match found {
        None => format!("{what}; the text ends here"),
        Some(Token::Word(word)) => format!("{what}; found {word}"),
        Some(Token::Text(text)) => format!("{what}; found '{text}'"),
        Some(Token::Number(number)) => format!("{what}; found {number}"),
        Some(Token::Sign(sign)) => format!("{what}; found {sign}"),
    })
}
