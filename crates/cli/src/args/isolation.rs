//! `--isolation`: the way a RUN is kept apart.

use super::error::FlagError;
use crate::settings::Settings;

/// The way a RUN is kept apart from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest way that works here.
    #[default]
    Auto,
    /// Namespaces, or nothing.
    Namespaces,
    /// A plain folder as the root, or nothing.
    Chroot,
    /// The container's own root file system, or nothing.
    InPlace,
    /// Nothing: there is no RUN.
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

    /// Reads `--isolation`; an empty value is none.
    ///
    /// # Errors
    /// If there is no such way.
    pub fn of_flag(text: Option<&str>) -> Result<Option<Self>, FlagError> {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| Self::parse("--isolation ", text)).transpose()
    }

    /// The flag's, or else the environment's.
    ///
    /// # Errors
    /// If the environment names none.
    pub fn or_setting(flag: Option<Self>, settings: &Settings) -> Result<Self, FlagError> {
        match (flag, &settings.isolation) {
            (Some(flag), _) => Ok(flag),
            (None, Some(text)) => Self::parse("KILN_ISOLATION=", text),
            (None, None) => Ok(Self::Auto),
        }
    }
}
