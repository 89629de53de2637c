//! `--isolation`: the isolation of a RUN.

use runtime::WantedIsolation;

use super::error::FlagError;
use crate::settings::Settings;

/// Reads the value of a flag or a variable, which errors name as `source`.
fn parse(source: &str, text: &str) -> Result<WantedIsolation, FlagError> {
    match text {
        // `default` is docker's word.
        "" | "auto" | "default" => Ok(WantedIsolation::Auto),
        "namespaces" => Ok(WantedIsolation::Namespaces),
        "chroot" => Ok(WantedIsolation::Chroot),
        "none" => Ok(WantedIsolation::None),
        "in-place" => Ok(WantedIsolation::InPlace),
        _ => Err(FlagError::Usage(format!(
            "`{source}{text}` is none of auto, namespaces, chroot, in-place, none"
        ))),
    }
}

/// Reads `--isolation`; an empty value counts as unset.
///
/// # Errors
/// If there is no such isolation.
pub fn isolation_of_flag(text: Option<&str>) -> Result<Option<WantedIsolation>, FlagError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| parse("--isolation ", text)).transpose()
}

/// The flag's value, else the environment's.
///
/// # Errors
/// If the environment's value is not an isolation.
pub fn isolation_or_setting(
    flag: Option<WantedIsolation>,
    settings: &Settings,
) -> Result<WantedIsolation, FlagError> {
    match (flag, &settings.isolation) {
        (Some(flag), _) => Ok(flag),
        (None, Some(text)) => parse("KILN_ISOLATION=", text),
        (None, None) => Ok(WantedIsolation::Auto),
    }
}
