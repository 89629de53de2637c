//! kaniko's flags for registries.

use crate::args::FlagError;
use crate::personalities::flags::ParsedFlags;
use crate::settings::{Environment, RegistrySetting, Settings};

/// Registries as flags describe them.
#[derive(Debug, Default, PartialEq)]
pub struct Registries {
    /// Registries, each with a mirror that is asked before it.
    pub mirrors: Vec<(String, String)>,
    /// Hosts that may be insecure.
    pub insecure: Vec<String>,
    /// True if every registry may be insecure.
    pub all_insecure: bool,
    /// Certificates of single registries.
    pub settings: Vec<RegistrySetting>,
}

impl Registries {
    /// Reads the flags for registries, which executor and warmer share.
    ///
    /// # Errors
    /// If a value does not have the form that it needs.
    pub fn read(given: &ParsedFlags, environment: &Environment) -> Result<Self, FlagError> {
        let mut own = Self {
            all_insecure: ["insecure-pull", "skip-tls-verify-pull"]
                .map(|flag| given.is_on(flag, false))
                .contains(&true),
            ..Self::default()
        };
        // Marks this flag as read too, whatever the first one says.
        let _ = given.has("skip-tls-verify-pull");
        for flag in ["insecure-registry", "skip-tls-verify-registry"] {
            own.insecure.extend(given.all(flag).into_iter().map(str::to_owned));
        }
        let mirrors = given.all("registry-mirror").into_iter();
        for mirror in mirrors.chain(environment.get("KANIKO_REGISTRY_MIRROR")) {
            let mirrors = mirror.split([',', ';']).map(str::trim).filter(|text| !text.is_empty());
            own.mirrors.extend(mirrors.map(|mirror| ("docker.io".to_owned(), mirror.to_owned())));
        }
        let maps = given.all("registry-map").into_iter();
        for text in maps.chain(environment.get("KANIKO_REGISTRY_MAP")) {
            for pair in text.split(';').filter(|pair| !pair.is_empty()) {
                let (registry, mirror) = pair.split_once('=').ok_or_else(|| {
                    let reason = format!("`{pair}` is not REGISTRY=MIRROR");
                    FlagError::bad(format!("--registry-map={text}"), reason)
                })?;
                own.mirrors.push((registry.into(), mirror.into()));
            }
        }
        for text in given.all("registry-certificate") {
            let (host, path) = of_host("registry-certificate", text, "HOST=FILE")?;
            let authorities = vec![path.into()];
            own.settings.push(RegistrySetting { host, authorities, ..RegistrySetting::default() });
        }
        for text in given.all("registry-client-cert") {
            let wanted = "HOST=CERTIFICATE,KEY";
            let (host, files) = of_host("registry-client-cert", text, wanted)?;
            let (certificate, key) = files
                .split_once(',')
                .ok_or_else(|| not_of_form("registry-client-cert", text, wanted))?;
            let client_certificate = Some((certificate.into(), key.into()));
            own.settings.push(RegistrySetting {
                host,
                client_certificate,
                ..RegistrySetting::default()
            });
        }
        Ok(own)
    }

    /// Adds the registries to the settings.
    pub fn apply(&self, settings: &mut Settings) {
        settings.mirrors.extend(self.mirrors.iter().cloned());
        settings.insecure_registries.extend(self.insecure.iter().cloned());
        settings.registries.extend(self.settings.iter().cloned());
        settings.insecure |= self.all_insecure;
    }
}

fn of_host<'t>(flag: &str, text: &'t str, wanted: &str) -> Result<(String, &'t str), FlagError> {
    match text.split_once('=') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => Ok((host.into(), rest)),
        _ => Err(not_of_form(flag, text, wanted)),
    }
}

fn not_of_form(flag: &str, text: &str, wanted: &str) -> FlagError {
    FlagError::bad(format!("--{flag}={text}"), format!("it is not {wanted}"))
}
