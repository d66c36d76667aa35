//! Arguments of `tap`.

use std::path::PathBuf;

use clap::Args;

use super::EndpointArgs;

#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    /// The topics that are shown, as an MQTT filter.
    #[arg(long, value_name = "FILTER", default_value = "sensors/#")]
    pub topic: String,
    /// Ends after so many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// The broker, as HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT; without it the endpoint of the running system.
    #[arg(long, value_name = "ADDRESS")]
    pub broker: Option<String>,
    /// PEM file with the authorities that are trusted, instead of those of this host.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// User name at the broker.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with that user's password or key.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub key_file: Option<PathBuf>,
    /// Reads by the sensor mappings of a streams file, instead of those that the running system has.
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}
