//! Login and logout: credentials into and out of `config.json`.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::docker_config::server_name;
use crate::{Credentials, DockerConfig, Error, Result, helper};

impl DockerConfig {
    /// Keeps credentials, as `docker login` does: with the helper that the file names for the
    /// registry, else in the file. The file is replaced as a whole, readable by its owner only,
    /// and keeps all other fields. `helper_path` is where helpers are looked for, as in `PATH`.
    /// Returns the helper that keeps them; none if the file does.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the helper fails.
    pub async fn store(
        path: &Path,
        registry: &str,
        credentials: &Credentials,
        helper_path: Option<&OsStr>,
    ) -> Result<Option<String>> {
        let registry = host_of(registry);
        let mut file = ConfigFile::read(path)?;
        let server = server_name(registry);
        let helper = file.config.helper(registry).map(str::to_owned);
        let entry = match &helper {
            Some(helper) => {
                helper::store(helper, server, credentials, helper_path).await?;
                // An empty entry makes docker list the registry as logged in.
                json!({})
            }
            None => entry(credentials),
        };
        file.auths()?.insert(server.into(), entry);
        file.write()?;
        Ok(helper)
    }

    /// Forgets the credentials of a registry, as `docker logout` does. Returns whether there were
    /// any in the file.
    ///
    /// # Errors
    /// As [`DockerConfig::store`].
    pub async fn erase(path: &Path, registry: &str, helper_path: Option<&OsStr>) -> Result<bool> {
        let registry = host_of(registry);
        let mut file = ConfigFile::read(path)?;
        let server = server_name(registry);
        if let Some(helper) = file.config.helper(registry) {
            helper::erase(helper, server, helper_path).await?;
        }
        let mut erased = false;
        if file.fields.contains_key("auths") {
            let auths = file.auths()?;
            for key in [server, registry] {
                erased |= auths.shift_remove(key).is_some();
            }
        }
        if erased {
            file.write()?;
        }
        Ok(erased)
    }
}

/// A registry as users write it: perhaps with a scheme or a path.
fn host_of(registry: &str) -> &str {
    let bare = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://"));
    bare.unwrap_or(registry).split('/').next().unwrap_or(registry)
}

fn entry(credentials: &Credentials) -> Value {
    let encode = |username: &str, password: &str| STANDARD.encode(format!("{username}:{password}"));
    match credentials {
        Credentials::Password { username, password } => {
            json!({ "auth": encode(username, password.reveal()) })
        }
        Credentials::Identity { username, token } => {
            json!({ "auth": encode(username, ""), "identitytoken": token.reveal() })
        }
        Credentials::Registry(token) => json!({ "registrytoken": token.reveal() }),
    }
}

struct ConfigFile {
    path: PathBuf,
    config: DockerConfig,
    fields: Map<String, Value>,
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self> {
        // A link stays one: what it leads to is replaced.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => "{}".into(),
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".into(),
            Err(error) => return Err(Error::file(path, error)),
        };
        let config = DockerConfig::parse(&text).map_err(|error| Error::file(&path, error))?;
        let fields = serde_json::from_str(&text)
            .map_err(|_| Error::file(&path, "it is not a JSON object"))?;
        Ok(Self { path, config, fields })
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>> {
        let auths = self.fields.entry("auths").or_insert(Value::Null);
        if auths.is_null() {
            *auths = json!({});
        }
        auths.as_object_mut().ok_or_else(|| Error::file(&self.path, "`auths` is not an object"))
    }

    fn write(&self) -> Result<()> {
        let failed = |error: std::io::Error| Error::file(&self.path, error);
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut text = serde_json::to_string_pretty(&self.fields)
            .map_err(|error| Error::file(&self.path, error))?;
        text.push('\n');
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use oci::Repository;

    use super::*;
    use crate::Secret;

    fn password(password: &str) -> Credentials {
        Credentials::Password { username: "me".into(), password: Secret::new(password) }
    }

    #[tokio::test]
    async fn login_and_logout_leave_the_rest_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.json");
        DockerConfig::store(&path, "r.io", &password("a"), None).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen('{', r#"{"proxies": {"default": {"x": 1}},"#, 1))
            .unwrap();
        DockerConfig::store(&path, "https://docker.io/", &password("b"), None).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let config = DockerConfig::load(&path).unwrap();
        for (host, secret) in [("r.io", "a"), ("docker.io", "b")] {
            let found = config.credentials(&Repository::new(host, "x")).await.unwrap();
            assert_eq!(found, Some(password(secret)));
        }
        assert!(DockerConfig::erase(&path, "docker.io", None).await.unwrap());
        assert!(!DockerConfig::erase(&path, "docker.io", None).await.unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        let fields: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(fields["proxies"]["default"]["x"], 1);
        assert_eq!(fields["auths"], json!({ "r.io": { "auth": "bWU6YQ==" } }));
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "a temporary file was left");
    }

    #[tokio::test]
    async fn a_broken_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{ not json").unwrap();
        DockerConfig::store(&path, "r.io", &password("a"), None).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{ not json");
    }
}
