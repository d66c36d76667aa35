//! A build without TLS: what cannot be made has no value.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::sink::kafka::bulk::connection::Connection;
use crate::sink::kafka::login::{Refusal, Tokens};
use crate::sink::kafka::settings::Password;

const ABSENT: &str = "TLS and SASL need a build with the feature kafka-tls (cargo build --features kafka-tls)";

pub(super) enum Encryption {}

pub(super) fn encryption(_ca: Option<&Path>) -> Result<Encryption, String> {
    Err(ABSENT.into())
}

impl Encryption {
    pub(super) async fn over(&self, _stream: TcpStream, _host: &str) -> Result<TcpStream, String> {
        match *self {}
    }
}

pub(super) enum Login {}

impl Login {
    pub(super) fn scram(_user: &str, _password: &Password, _refusal: &Refusal) -> Result<Login, String> {
        Err(ABSENT.into())
    }

    pub(super) fn bearer(_tokens: &Tokens, _refusal: &Refusal) -> Result<Login, String> {
        Err(ABSENT.into())
    }

    pub(super) async fn prepare(&self) -> Result<(), String> {
        match *self {}
    }

    pub(super) async fn at(&self, _connection: &Connection) -> Result<Option<Duration>, String> {
        match *self {}
    }
}
