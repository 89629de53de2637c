//! The values of `RUN --mount`.

use graph::Sharing;

use crate::error::Error;
use crate::go;
use crate::instruction::MountText;

/// Kinds of mounts as they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, Type); 5] = [
    ("bind", Type::Bind),
    ("cache", Type::Cache),
    ("tmpfs", Type::Tmpfs),
    ("secret", Type::Secret),
    ("ssh", Type::Ssh),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// A mount with its variables resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub kind: Type,
    pub from: String,
    pub source: String,
    pub target: String,
    pub readonly: bool,
    /// The value of `readonly` or `readwrite`.
    written_readonly: Option<bool>,
    pub size: i64,
    pub id: String,
    pub sharing: Option<Sharing>,
    pub required: bool,
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl MountOptions {
    /// True if the folder or file has its own owner or mode.
    pub(crate) fn has_attributes(&self) -> bool {
        self.mode.is_some() || self.uid.is_some() || self.gid.is_some()
    }
}

/// Checks what can be checked before variables are known.
pub(crate) fn read(text: &str) -> Result<MountText, Error> {
    let mut from = String::new();
    for field in fields(text).map_err(|error| error.word(text))? {
        match field.split_once('=') {
            Some((key, value)) if key.eq_ignore_ascii_case("from") => {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    return Err(Error::new(
                        "'from' doesn't support variable expansion, define alias stage instead",
                    )
                    .word(value)
                    .hint("write `FROM IMAGE:$VERSION AS NAME` further up, and from=NAME here"));
                }
                from = value.into();
            }
            _ => {}
        }
    }
    Ok(MountText { text: text.into(), from })
}

/// Reads a mount, with `expand` for its values.
pub(crate) fn resolve(
    text: &str,
    expand: &mut dyn FnMut(&str) -> Result<String, Error>,
) -> Result<MountOptions, Error> {
    let mut mount = MountOptions::default();
    for field in fields(text).map_err(|error| error.word(text))? {
        mount.read_field(&field, expand).map_err(|error| {
            let key = field.split('=').next().unwrap_or_default().to_lowercase();
            match value_form(&key).filter(|_| error.hint.is_none()) {
                Some(form) => error.hint(form).word(&field),
                None => error.word(&field),
            }
        })?;
    }
    let usual = !matches!(mount.kind, Type::Cache | Type::Tmpfs);
    mount.readonly = mount.written_readonly.unwrap_or(usual);
    mount.check().map_err(|error| error.word(text))?;
    Ok(mount)
}

/// The form of a key's values, for a hint.
fn value_form(key: &str) -> Option<&'static str> {
    Some(match key {
        "type" => "it is bind, cache, tmpfs, secret or ssh",
        "readonly" | "ro" | "readwrite" | "rw" => "it is true or false",
        "required" => "type=secret or type=ssh stands in front of it; it is true or false",
        "size" => "type=tmpfs stands in front of it, and it is as 64m",
        "sharing" => "it is shared, private or locked",
        "mode" => "it is octal, as mode=0755",
        "uid" | "gid" => "it is a number",
        _ => return None,
    })
}

impl MountOptions {
    fn read_field(
        &mut self,
        field: &str,
        expand: &mut dyn FnMut(&str) -> Result<String, Error>,
    ) -> Result<(), Error> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", None) => self.written_readonly = Some(true),
            ("readwrite" | "rw", None) => self.written_readonly = Some(false),
            ("required", None) => {
                self.allow_required(&key)?;
                self.required = true;
            }
            (_, None) => {
                return Err(Error::new(format!(
                    "invalid field '{field}' must be a key=value pair"
                ))
                .suggest(&key, KEYS)
                .or_hint(|| format!("write {key}=VALUE")));
            }
            ("readonly" | "ro", Some(value)) => {
                self.written_readonly = Some(flag(&key, &expand(value)?)?);
            }
            ("readwrite" | "rw", Some(value)) => {
                self.written_readonly = Some(!flag(&key, &expand(value)?)?);
            }
            (key, Some(value)) => self.set(key, expand(value)?, field)?,
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: String, field: &str) -> Result<(), Error> {
        match key {
            "type" => {
                let lower = value.to_lowercase();
                let found = TYPES.iter().find(|(name, _)| *name == lower);
                self.kind = found.map(|(_, kind)| *kind).ok_or_else(|| {
                    Error::new(format!("unsupported mount type {}", go::quote(&value)))
                        .suggest(&value, TYPES.iter().map(|(name, _)| *name))
                })?;
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "required" => {
                self.allow_required(key)?;
                self.required = flag(key, &value)?;
            }
            "size" if self.kind == Type::Tmpfs => {
                self.size = bytes(&value)
                    .ok_or_else(|| Error::new(format!("invalid value for {key}: {value}")))?;
            }
            "size" => return Err(self.unexpected(key)),
            "id" => self.id = value,
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        let error =
                            Error::new(format!("unsupported sharing value {}", go::quote(&value)));
                        return Err(error.suggest(&value, ["shared", "private", "locked"]));
                    }
                });
            }
            "mode" => self.mode = Some(number(key, &value, 8)?),
            "uid" => self.uid = Some(number(key, &value, 10)?),
            "gid" => self.gid = Some(number(key, &value, 10)?),
            "env" => self.env = Some(value),
            _ => {
                return Err(
                    Error::new(format!("unexpected key '{key}' in '{field}'")).suggest(key, KEYS)
                );
            }
        }
        Ok(())
    }

    fn unexpected(&self, key: &str) -> Error {
        format!("unexpected key '{key}' for mount type '{}'", self.kind_name()).into()
    }

    fn allow_required(&self, key: &str) -> Result<(), Error> {
        match self.kind {
            Type::Secret | Type::Ssh => Ok(()),
            _ => Err(self.unexpected(key)),
        }
    }

    fn kind_name(&self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name)
    }

    fn check(&self) -> Result<(), Error> {
        if matches!(self.kind, Type::Bind | Type::Tmpfs) {
            for (key, given) in [
                ("mode", self.mode.is_some()),
                ("uid", self.uid.is_some()),
                ("gid", self.gid.is_some()),
            ] {
                if given {
                    let kind = go::quote(self.kind_name());
                    return Err(Error::new(format!("{key} not allowed for {kind} type mounts"))
                        .hint("it is for type=cache, type=secret and type=ssh"));
                }
            }
        }
        if self.kind == Type::Secret {
            if !self.from.is_empty() {
                return Err(Error::new("secret mount should not have a from")
                    .hint("secrets come from --secret; leave from= out"));
            }
            if self.sharing.is_some() {
                return Err(
                    Error::new("secret mount should not define sharing").hint("leave it out")
                );
            }
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return Err(Error::new("invalid secret mount. one of source, target required")
                    .hint("name the secret: type=secret,id=NAME"));
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return Err(Error::new("both source and id can't be set")
                    .hint("they mean the same: leave one out"));
            }
        }
        if self.sharing.is_some() && self.kind != Type::Cache {
            return Err(Error::new(format!(
                "invalid cache sharing set for {} mount",
                self.kind_name()
            ))
            .hint("sharing is for type=cache"));
        }
        if self.kind == Type::Ssh && !self.source.is_empty() {
            return Err(Error::new("ssh does not support source").hint("name the agent with id="));
        }
        Ok(())
    }
}

fn flag(key: &str, value: &str) -> Result<bool, Error> {
    oci::parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}").into())
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, Error> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    number.ok_or_else(|| format!("invalid value {value} for {key}").into())
}

/// A size as `64m`, in bytes (go-units' `RAMInBytes`).
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let split = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at(split + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let unit = unit.to_lowercase();
    let (scale, rest) = match unit.chars().next() {
        None => return Some(number as i64),
        Some('b') => (0, &unit[1..]),
        Some(first) => (i32::try_from("kmgtp".find(first)?).ok()? + 1, &unit[1..]),
    };
    let suffix = matches!(rest, "") || (scale > 0 && matches!(rest, "b" | "ib"));
    suffix.then(|| (number * 1024f64.powi(scale)) as i64)
}

/// The fields of a line of comma-separated values.
fn fields(text: &str) -> Result<Vec<String>, Error> {
    let wrong = |what: &str| Error::new(format!("failed to parse csv mounts: {what}"));
    let mut rest = text.strip_suffix('\n').unwrap_or(text);
    if rest.is_empty() {
        return Err(wrong("EOF"));
    }
    let mut fields = Vec::new();
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(wrong("bare \" in non-quoted-field"));
            }
            fields.push(field.into());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let Some((part, after)) = quoted.split_once('"') else {
                return Err(wrong("extraneous or missing \" in quoted-field"));
            };
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    quoted = after;
                }
                None => {
                    quoted = after;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(after) => rest = after,
            None if quoted.is_empty() => return Ok(fields),
            None => return Err(wrong("extraneous or missing \" in quoted-field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MountOptions, String> {
        resolve(text, &mut |value| Ok(value.replace("$X", "x"))).map_err(|error| error.to_string())
    }

    #[test]
    fn mounts_are_read() {
        let mount = parse("TYPE=cache,target=/$X,id=a,sharing=locked,mode=0700,ro").unwrap();
        assert_eq!((mount.kind, mount.target.as_str()), (Type::Cache, "/x"));
        assert_eq!((mount.mode, mount.readonly), (Some(0o700), true));
        assert!(!parse("type=tmpfs,target=/a").unwrap().readonly);
        assert!(parse("target=/a").unwrap().readonly);
        assert!(!parse("target=/a,rw=1").unwrap().readonly);
        assert_eq!(parse("\"target=/a,b\"").unwrap().target, "/a,b");
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for (text, error) in [
            ("type=bnd,target=/m", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("sorce=x", "unexpected key 'sorce' in 'sorce=x' (did you mean source?)"),
            (
                "size=1m",
                "unexpected key 'size' for mount type 'bind' (type=tmpfs stands in front of it, and it is as 64m)",
            ),
            (
                "required",
                "unexpected key 'required' for mount type 'bind' (type=secret or type=ssh stands in front of it; it is true or false)",
            ),
            (
                "uid=1,target=/a",
                "uid not allowed for \"bind\" type mounts (it is for type=cache, type=secret and type=ssh)",
            ),
            (
                "type=secret",
                "invalid secret mount. one of source, target required (name the secret: type=secret,id=NAME)",
            ),
            ("type=ssh,source=x", "ssh does not support source (name the agent with id=)"),
            (
                "type=tmpfs,size=big",
                "invalid value for size: big (type=tmpfs stands in front of it, and it is as 64m)",
            ),
            ("tgt", "invalid field 'tgt' must be a key=value pair (did you mean dst?)"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
        assert!(read("from=$S,target=/a").is_err());
        assert_eq!(read("from=a,target=/$S").unwrap().from, "a");
    }

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("10", Some(10)),
            ("64m", Some(64 << 20)),
            ("1.5k", Some(1536)),
            ("2 GiB", Some(2 << 30)),
            ("1kb", Some(1024)),
            ("1b", Some(1)),
            ("1bb", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
