//! Where the polled services are and with which keys they are asked: names of settings from the table, values from an
//! environment. A key is never shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::services;
use crate::connect::politeness::Manners;
use crate::settings::{BadSetting, Secret, variable};

/// A provider's service, and the names under which its settings are found.
#[derive(Debug)]
pub struct Service {
    /// In words.
    pub name: &'static str,
    /// Its base address, without a slash at the end.
    pub address: &'static str,
    /// The variable that names another address.
    pub address_setting: &'static str,
    /// The template's parameter that does.
    pub address_parameter: &'static str,
    /// The variable that holds its key; `None`: it asks for none. `{key_setting}_SECRET` names the secret that holds it on AWS.
    pub key_setting: Option<&'static str>,
    /// What it asks of its clients [S11].
    pub manners: Manners,
}

/// The services' settings as they were found, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    addresses: BTreeMap<&'static str, String>,
    keys: BTreeMap<&'static str, Secret>,
}

/// Whether a service has refused its key, or there was none for it, since somebody last looked: keys are rotated.
#[derive(Debug, Default)]
pub struct KeyDoubt(AtomicBool);

impl KeyDoubt {
    /// A key is not what its service wants.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether one was not; for whoever reads the keys again.
    pub fn settle(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Services {
    /// # Errors
    /// An address that is not one.
    pub fn parse(environment: &BTreeMap<String, String>) -> Result<Services, BadSetting> {
        let mut found = Services::default();
        for service in services() {
            if let Some(address) = variable(environment, service.address_setting) {
                if !address.starts_with("https://") && !address.starts_with("http://") {
                    let rule = format!("{address:?} is not an address that begins with https:// or http://");
                    return Err(BadSetting { name: service.address_setting.into(), rule });
                }
                found.addresses.insert(service.address_setting, address.trim_end_matches('/').to_owned());
            }
            if let Some(setting) = service.key_setting
                && let Some(key) = variable(environment, setting)
            {
                found.keys.insert(setting, Secret::new(key));
            }
        }
        Ok(found)
    }

    /// Takes the key of the service whose `key_setting` this is.
    pub fn set_key(&mut self, setting: &'static str, key: Secret) {
        self.keys.insert(setting, key);
    }

    /// The base address that was set for the service, else its own.
    pub fn address(&self, service: &Service) -> &str {
        self.addresses.get(service.address_setting).map_or(service.address, String::as_str)
    }

    /// # Errors
    /// Names the setting that is missing.
    pub fn key(&self, service: &Service) -> Result<&str, String> {
        let setting = service.key_setting.unwrap_or_default();
        self.keys.get(setting).and_then(Secret::reveal).ok_or_else(|| format!("{setting} is not set"))
    }
}
