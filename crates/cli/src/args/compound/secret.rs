//! `--secret`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use build::SecretValue;

use super::options::{self, Direction, given, options};
use super::{Fields, OptionError, fields};
use crate::settings::Environment;

/// BuildKit's limit, in bytes.
const LARGEST: u64 = 500 << 10;

options! {
    /// `--secret`.
    pub struct SecretOptions {
        /// Name that a step asks for.
        id: String = given("id"), "token";
        /// File that holds the secret.
        file: String = given("src" | "source"), "file";
        /// Variable that holds the secret.
        variable: String = given("env"), "TOKEN";
        /// Kind of the source: file or env.
        kind: String = given("type"), "env";
    }
}

/// Reads a value of `--secret` and the secret itself. Returns its id and value. Without a source,
/// the secret is the variable with the id's name if it is set, else the file of that name.
///
/// # Errors
/// If an option is wrong, or the secret cannot be read. The value is not in the error.
pub fn secret(
    text: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<(String, SecretValue), OptionError> {
    secret_of(Fields::of(&fields(text)?)?, directory, environment)
}

/// Reads a secret by its fields.
///
/// # Errors
/// The errors of [`secret`].
pub fn secret_of(
    fields: Fields,
    directory: &Path,
    environment: &Environment,
) -> Result<(String, SecretValue), OptionError> {
    let SecretOptions { id, mut file, mut variable, kind } =
        options::read("--secret", fields, Direction::Export)?;
    let kind = kind.unwrap_or_default();
    if !matches!(kind.as_str(), "" | "file" | "env") {
        return Err(OptionError::invalid("type", kind, "file or env"));
    }
    let hint = ", as in `id=token,env=TOKEN`";
    let id = id.ok_or_else(|| OptionError::missing("--secret", "id", hint))?;
    if kind == "env" && variable.is_none() {
        variable = file.take();
    }
    if file.is_none() && variable.is_none() {
        if environment.raw(&id).is_some() && kind != "file" {
            variable = Some(id.clone());
        } else {
            file = Some(id.clone());
        }
    }
    let value = match (variable, file) {
        // An unset variable is an empty secret, as with buildx.
        (Some(variable), None) => {
            environment.raw(&variable).unwrap_or_default().as_bytes().to_vec()
        }
        (Some(_), Some(_)) => {
            let reason = "it has both a file and a variable";
            return Err(OptionError::refused(format!("id={id}"), reason));
        }
        (None, file) => {
            let path = directory.join(file.unwrap_or_default());
            read(&path).map_err(|source| OptionError::Io {
                doing: format!("secret `{id}`: reading `{}`", path.display()),
                source,
            })?
        }
    };
    if value.len() as u64 > LARGEST {
        return Err(OptionError::refused(format!("id={id}"), "it is larger than 500 KiB"));
    }
    Ok((id, SecretValue::new(value)))
}

/// The content of a file, up to one byte more than the limit.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut value = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "from file").unwrap();
        let environment = Environment::of(&[("TOKEN", "from env"), ("EMPTY", "")]);
        let read = |text: &str| secret(text, folder.path(), &environment);
        for (text, id, value) in [
            ("id=a,src=file", "a", "from file"),
            ("id=a,source=file,type=file", "a", "from file"),
            ("id=a,env=TOKEN", "a", "from env"),
            ("type=env,id=a,src=TOKEN", "a", "from env"),
            ("id=TOKEN", "TOKEN", "from env"),
            ("id=EMPTY", "EMPTY", ""),
            ("id=file", "file", "from file"),
            ("id=a,env=UNSET", "a", ""),
        ] {
            let (read_id, read_value) = read(text).unwrap();
            assert_eq!((read_id.as_str(), read_value.value()), (id, value.as_bytes()), "{text}");
        }
        std::fs::write(folder.path().join("large"), vec![b'x'; (500 << 10) + 1]).unwrap();
        for (text, word) in [
            ("id=none", "secret `none`: reading"),
            ("src=file", "needs `id`"),
            ("id=a,type=vault", "`type=vault`"),
            ("id=a,colour=b", "`colour` is not"),
            ("id=large", "larger than 500 KiB"),
            ("id=a,env=TOKEN,src=file", "both"),
            ("a", "key=value"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
