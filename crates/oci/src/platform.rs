//! Platforms: what an image is for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor, normalised as containerd does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`'s name of the processor.
    pub architecture: String,
    /// `GOOS`'s name of the system.
    pub os: String,
    /// Exact version of the system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the system (Windows).
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the processor, as `v7` of `arm`; empty where there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is not a platform.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// Not one to three words.
    #[error("`{0}` is not a platform (os[/arch[/variant]], as linux/amd64)")]
    Shape(String),
    /// A word with characters that no name has.
    #[error("platform `{text}`: `{word}` is not a name of a system or processor")]
    Word {
        /// The whole text.
        text: String,
        /// The word that is wrong.
        word: String,
    },
    /// One word that is neither a system nor a processor.
    #[error("platform `{0}`: neither a known system nor a known processor")]
    Unknown(String),
}

impl Platform {
    /// A platform, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normalize_architecture(architecture, variant);
        Self {
            architecture,
            os: normalize_os(os),
            os_version: String::new(),
            os_features: Vec::new(),
            variant,
        }
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, "")
    }

    /// The same with aliases and default variants resolved.
    pub fn normalize(&self) -> Self {
        let (architecture, variant) = normalize_architecture(&self.architecture, &self.variant);
        Self { architecture, os: normalize_os(&self.os), variant, ..self.clone() }
    }

    /// True if an image for `self` serves a request for `wanted`.
    pub fn serves(&self, wanted: &Platform) -> bool {
        let (have, want) = (self.normalize(), wanted.normalize());
        have.os == want.os && have.architecture == want.architecture && have.variant == want.variant
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/arch`, `os/arch/variant`, or one word that is a system or a processor.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let words: Vec<&str> = text.split('/').collect();
        for word in &words {
            let fits = !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.+:()".contains(c));
            if !fits {
                return Err(PlatformError::Word { text: text.into(), word: (*word).into() });
            }
        }
        let host = Self::host();
        match words[..] {
            [word] if is_known_os(&normalize_os(word)) => {
                Ok(Self::new(word, &host.architecture, &host.variant))
            }
            [word] => {
                let platform = Self::new(&host.os, word, "");
                match is_known_architecture(&platform.architecture) {
                    true => Ok(platform),
                    false => Err(PlatformError::Unknown(text.into())),
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(PlatformError::Shape(text.into())),
        }
    }
}

fn normalize_os(os: &str) -> String {
    match os.to_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

/// containerd's `normalizeArch`.
fn normalize_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let pair = |architecture: &str, variant: &str| (architecture.to_owned(), variant.to_owned());
    match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => pair("386", ""),
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => pair("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => pair("amd64", variant),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => pair("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => pair("arm64", "v9"),
        ("aarch64" | "arm64", variant) => pair("arm64", variant),
        ("armhf", _) => pair("arm", "v7"),
        ("armel", _) => pair("arm", "v6"),
        ("arm", "" | "7") => pair("arm", "v7"),
        ("arm", "5" | "6" | "8") => pair("arm", &format!("v{variant}")),
        (architecture, variant) => pair(architecture, variant),
    }
}

fn is_known_os(os: &str) -> bool {
    matches!(
        os,
        "aix"
            | "android"
            | "darwin"
            | "dragonfly"
            | "freebsd"
            | "hurd"
            | "illumos"
            | "ios"
            | "js"
            | "linux"
            | "nacl"
            | "netbsd"
            | "openbsd"
            | "plan9"
            | "solaris"
            | "wasip1"
            | "windows"
            | "zos"
    )
}

fn is_known_architecture(architecture: &str) -> bool {
    matches!(
        architecture,
        "386"
            | "amd64"
            | "amd64p32"
            | "arm"
            | "armbe"
            | "arm64"
            | "arm64be"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "mips64p32"
            | "mips64p32le"
            | "ppc"
            | "ppc64"
            | "ppc64le"
            | "riscv"
            | "riscv64"
            | "s390"
            | "s390x"
            | "sparc"
            | "sparc64"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_default_variants_disappear() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "linux/", "a/b/c/d", "linux/a b", "nonsense"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
