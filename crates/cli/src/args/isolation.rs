//! `--isolation`: the isolation of a RUN.

use super::error::FlagError;
use crate::settings::Settings;

/// The isolation of a RUN from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest isolation that works here.
    #[default]
    Auto,
    /// Namespaces, without a fallback.
    Namespaces,
    /// A plain folder as the root, without a fallback.
    Chroot,
    /// The container's own root file system, without a fallback.
    InPlace,
    /// No isolation, hence no RUN.
    None,
}

impl Isolation {
    /// Reads the value of a flag or a variable, which errors name as `source`.
    fn parse(source: &str, text: &str) -> Result<Self, FlagError> {
        match text {
            // `default` is docker's word.
            "" | "auto" | "default" => Ok(Self::Auto),
            "namespaces" => Ok(Self::Namespaces),
            "chroot" => Ok(Self::Chroot),
            "none" => Ok(Self::None),
            "in-place" => Ok(Self::InPlace),
            _ => Err(FlagError::Usage(format!(
                "`{source}{text}` is none of auto, namespaces, chroot, in-place, none"
            ))),
        }
    }

    /// Reads `--isolation`; an empty value counts as unset.
    ///
    /// # Errors
    /// If there is no such isolation.
    pub fn of_flag(text: Option<&str>) -> Result<Option<Self>, FlagError> {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| Self::parse("--isolation ", text)).transpose()
    }

    /// The flag's value, else the environment's.
    ///
    /// # Errors
    /// If the environment's value is not an isolation.
    pub fn or_setting(flag: Option<Self>, settings: &Settings) -> Result<Self, FlagError> {
        match (flag, &settings.isolation) {
            (Some(flag), _) => Ok(flag),
            (None, Some(text)) => Self::parse("KILN_ISOLATION=", text),
            (None, None) => Ok(Self::Auto),
        }
    }
}
