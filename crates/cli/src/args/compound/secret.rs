//! `--secret`.

use std::path::Path;

use build::Secret;

use super::{Fields, fields};
use crate::settings::Environment;

/// BuildKit's limit.
const LARGEST: u64 = 500 << 10;

/// Reads a value of `--secret` and the secret itself: its id and its value. Without a source, it
/// is the variable with the id's name where there is one, else the file of that name.
///
/// # Errors
/// A sentence that names the secret, never its value.
pub fn secret(
    text: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<(String, Secret), String> {
    let mut fields = Fields::of(&fields(text)?)?;
    let kind = fields.take("type").unwrap_or_default();
    if !matches!(kind.as_str(), "" | "file" | "env") {
        return Err(format!("`type={kind}` is neither file nor env"));
    }
    let id = fields
        .take("id")
        .filter(|id| !id.is_empty())
        .ok_or("`id` is missing, as in `id=token,env=TOKEN`")?;
    let not_empty = |value: &String| !value.is_empty();
    let long = fields.take("source").filter(not_empty);
    let mut file = fields.take("src").filter(not_empty).or(long);
    let mut variable = fields.take("env").filter(not_empty);
    fields.nothing_left("--secret", &["id", "src", "env", "type"])?;
    if kind == "env" && variable.is_none() {
        variable = file.take();
    }
    if file.is_none() && variable.is_none() {
        match environment.raw(&id).is_some() && kind != "file" {
            true => variable = Some(id.clone()),
            false => file = Some(id.clone()),
        }
    }
    let value = match (variable, file) {
        // A variable that is not set is an empty secret, as with buildx.
        (Some(variable), None) => {
            environment.raw(&variable).unwrap_or_default().as_bytes().to_vec()
        }
        (Some(_), Some(_)) => {
            return Err(format!("secret `{id}`: it has both a file and a variable"));
        }
        (None, file) => read(&id, &directory.join(file.unwrap_or_default()))?,
    };
    match value.len() as u64 > LARGEST {
        true => Err(too_large(&id)),
        false => Ok((id, Secret::new(value))),
    }
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path)
        .map_err(|error| format!("secret `{id}`: reading `{}`: {error}", path.display()))?;
    let mut value = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut value)
        .map_err(|error| format!("secret `{id}`: reading `{}`: {error}", path.display()))?;
    Ok(value)
}

fn too_large(id: &str) -> String {
    format!("secret `{id}` is larger than 500 KiB")
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
            ("src=file", "`id` is missing"),
            ("id=a,type=vault", "neither"),
            ("id=a,colour=b", "`colour` is not"),
            ("id=large", "larger than 500 KiB"),
            ("id=a,env=TOKEN,src=file", "both"),
            ("a", "key=value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
