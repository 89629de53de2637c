//! The body of `POST /containers/create`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::create_fields::{CREATE_FIELDS, DEFAULT_CAPABILITIES};
use super::fields::{bounded, check_texts, is_nothing, judge, object, refuse, take, wrong};
use super::{mounts, ports};
use crate::{
    ApiError, AttachedStreams, ConsoleSize, ContainerNetwork, ContainerSpec, ExtraHost, HostSpec,
    SignalNumber, UlimitSpec,
};

/// A text, or a list of texts: clients may send a command in both ways.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CommandWords {
    One(String),
    Several(Vec<String>),
}

impl From<CommandWords> for Vec<String> {
    fn from(words: CommandWords) -> Self {
        match words {
            CommandWords::One(word) => vec![word],
            CommandWords::Several(words) => words,
        }
    }
}

/// Reads the body of `POST /containers/create`; returns sentences about fields without effect too.
///
/// # Errors
/// If a field is unknown, refused, or not of its type.
pub fn read_create(body: Value) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    check_texts(&body)?;
    let mut fields = object(body)?;
    let mut notes = judge(&mut fields, CREATE_FIELDS)?;
    let mut host = object_in(&mut fields, "HostConfig");
    let networking = object_in(&mut fields, "NetworkingConfig");
    let (entrypoint, command) = command(&mut fields)?;
    let mut spec = ContainerSpec {
        image: take(&mut fields, "Image")?,
        entrypoint,
        command,
        env: variables(take(&mut fields, "Env")?)?,
        user: text(&mut fields, "User")?,
        working_dir: text(&mut fields, "WorkingDir")?,
        hostname: text(&mut fields, "Hostname")?,
        labels: take(&mut fields, "Labels")?,
        terminal: take(&mut fields, "Tty")?,
        console_size: console_size(take(&mut host, "ConsoleSize")?)?,
        open_stdin: take(&mut fields, "OpenStdin")?,
        stdin_once: take(&mut fields, "StdinOnce")?,
        attached: AttachedStreams {
            stdin: take(&mut fields, "AttachStdin")?,
            stdout: take(&mut fields, "AttachStdout")?,
            stderr: take(&mut fields, "AttachStderr")?,
        },
        stop_signal: text(&mut fields, "StopSignal")?
            .map(|signal| SignalNumber::parse(&signal))
            .transpose()?,
        stop_timeout: stop_timeout(take(&mut fields, "StopTimeout")?)?,
        exposed_ports: ports::exposed(take(&mut fields, "ExposedPorts")?)?,
        volumes: folders(take(&mut fields, "Volumes")?)?,
        host: HostSpec::default(),
    };
    if spec.image.is_empty() {
        return Err(ApiError::BadRequest("`Image` is missing".into()));
    }
    check_hostname(spec.hostname.as_deref())?;
    check_folder("WorkingDir", spec.working_dir.as_deref())?;
    let is_disabled = take(&mut fields, "NetworkDisabled")?;
    let mounts = mounts::read(&mut host)?;
    spec.volumes.extend(mounts.volumes);
    notes.extend(mounts.notes);
    notes.extend(check_logs(take(&mut host, "LogConfig")?)?);
    spec.host = host_spec(&mut host, networking, is_disabled)?;
    spec.host.mounts = mounts.mounts;
    notes.extend(ports::notes(&spec.host.published));
    // Every field that the table honours is read above.
    debug_assert!(fields.is_empty() && host.is_empty(), "{fields:?} {host:?}");
    Ok((spec, notes))
}

fn object_in(fields: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match fields.shift_remove(name) {
        Some(Value::Object(object)) => object,
        // The judge has refused what is no object.
        _ => Map::new(),
    }
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    Ok(Some(take::<String>(fields, name)?).filter(|text| !text.is_empty()))
}

/// Entrypoint and command as dockerd reads them: an empty list takes the image's entrypoint away, an empty text in one
/// the image's command too, and so does a command of its own.
type CommandParts = (Option<Vec<String>>, Option<Vec<String>>);

fn command(fields: &mut Map<String, Value>) -> Result<CommandParts, ApiError> {
    let entrypoint: Option<Vec<String>> =
        take::<Option<CommandWords>>(fields, "Entrypoint")?.map(Vec::from);
    let command = take::<Option<CommandWords>>(fields, "Cmd")?.map(Vec::from);
    Ok(match entrypoint {
        None => (None, command),
        Some(words) if words.is_empty() => (Some(words), command),
        Some(words) if words == [""] => (Some(Vec::new()), Some(command.unwrap_or_default())),
        Some(words) => (Some(words), Some(command.unwrap_or_default())),
    })
}

/// Variables, each with a name.
pub(super) fn variables(list: Vec<String>) -> Result<Vec<String>, ApiError> {
    if list.iter().any(|variable| variable.is_empty() || variable.starts_with('=')) {
        Err(wrong("Env", "a variable has no name"))
    } else {
        Ok(list)
    }
}

/// Lines and characters, as Docker orders them. Clients without a terminal send zeros.
pub(super) fn console_size(size: Option<[u16; 2]>) -> Result<Option<ConsoleSize>, ApiError> {
    let size = size.map(|[rows, columns]| ConsoleSize { columns, rows });
    Ok(size.filter(|size| size.columns > 0 && size.rows > 0))
}

fn stop_timeout(seconds: Option<i64>) -> Result<Option<Duration>, ApiError> {
    let Some(seconds) = seconds else { return Ok(None) };
    // -1 is without end: as long as anybody will wait.
    let seconds = if seconds == -1 { i64::from(u32::MAX) } else { seconds };
    match u32::try_from(seconds) {
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err(wrong("StopTimeout", "it is no number of seconds")),
    }
}

fn folders(map: BTreeMap<String, Value>) -> Result<BTreeSet<String>, ApiError> {
    map.keys().try_for_each(|path| mounts::check_target("Volumes", path))?;
    bounded("Volumes", map.into_keys().collect()).map(BTreeSet::from_iter)
}

fn check_folder(name: &str, path: Option<&str>) -> Result<(), ApiError> {
    match path {
        Some(path) if !Path::new(path).is_absolute() => {
            Err(wrong(name, format_args!("`{path}` is not absolute")))
        }
        _ => Ok(()),
    }
}

/// A name as sethostname(2) takes it and /etc/hosts can have it.
fn check_hostname(name: Option<&str>) -> Result<(), ApiError> {
    let fits = |name: &str| {
        name.len() <= 64
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match name {
        Some(name) if !fits(name) => Err(wrong("Hostname", "invalid hostname")),
        _ => Ok(()),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct LogConfig {
    r#type: Option<String>,
    config: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitBody {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

/// Accepts the drivers that keep output where the client can ask for it; options of a driver have no effect.
fn check_logs(logs: LogConfig) -> Result<Option<String>, ApiError> {
    let driver = logs.r#type.unwrap_or_default();
    if !matches!(driver.as_str(), "" | "json-file" | "local" | "none") {
        let why = format!("there is no log driver `{driver}`");
        return Err(refuse("HostConfig.LogConfig", why));
    }
    let has_options = logs.config.is_some_and(|options| !options.is_empty());
    Ok(has_options
        .then(|| "`HostConfig.LogConfig.Config`: output is kept in kiln's way".to_owned()))
}

fn host_spec(
    host: &mut Map<String, Value>,
    networking: Map<String, Value>,
    is_disabled: bool,
) -> Result<HostSpec, ApiError> {
    let restart = take::<RestartPolicy>(host, "RestartPolicy")?.name.unwrap_or_default();
    if !matches!(restart.as_str(), "" | "no") {
        let why = format!("`{restart}`: no container starts again by itself");
        return Err(refuse("HostConfig.RestartPolicy", why));
    }
    check_capabilities(&take::<Vec<String>>(host, "CapAdd")?)?;
    check_security(&take::<Vec<String>>(host, "SecurityOpt")?)?;
    let mode: String = take(host, "NetworkMode")?;
    let network = if is_disabled { ContainerNetwork::None } else { network(&mode)? };
    check_endpoints(networking, network)?;
    let ulimits = bounded("HostConfig.Ulimits", take::<Vec<UlimitBody>>(host, "Ulimits")?)?;
    let hosts = bounded("HostConfig.ExtraHosts", take::<Vec<String>>(host, "ExtraHosts")?)?;
    let spec = HostSpec {
        auto_remove: take(host, "AutoRemove")?,
        init: take(host, "Init")?,
        privileged: take(host, "Privileged")?,
        read_only_root: take(host, "ReadonlyRootfs")?,
        network,
        published: ports::published(take(host, "PortBindings")?)?,
        publish_all: take(host, "PublishAllPorts")?,
        mounts: Vec::new(),
        extra_hosts: hosts.iter().map(|host| extra_host(host)).collect::<Result<_, _>>()?,
        ulimits: ulimits.into_iter().map(ulimit).collect(),
        shm_size: take::<Option<u64>>(host, "ShmSize")?,
    };
    if network == ContainerNetwork::None && (spec.publish_all || !spec.published.is_empty()) {
        return Err(wrong("HostConfig.PortBindings", "the network `none` reaches nobody"));
    }
    Ok(spec)
}

fn ulimit(limit: UlimitBody) -> UlimitSpec {
    UlimitSpec { name: limit.name, soft: limit.soft, hard: limit.hard }
}

fn network(mode: &str) -> Result<ContainerNetwork, ApiError> {
    match mode {
        "" | "default" | "bridge" | "host" => Ok(ContainerNetwork::Host),
        "none" => Ok(ContainerNetwork::None),
        other => {
            let why = format!(
                "there is no network `{other}`: a container has the machine's (`host`) or none (`none`)"
            );
            Err(refuse("HostConfig.NetworkMode", why))
        }
    }
}

/// Checks the properties of networks: the container's may be named, and has none of its own.
fn check_endpoints(
    mut networking: Map<String, Value>,
    wanted: ContainerNetwork,
) -> Result<(), ApiError> {
    let endpoints: BTreeMap<String, Option<Map<String, Value>>> =
        take(&mut networking, "EndpointsConfig")?;
    for (name, endpoint) in endpoints {
        if network(&name)? != wanted {
            let message = format!("`{name}` is not the network of `HostConfig.NetworkMode`");
            return Err(wrong("NetworkingConfig.EndpointsConfig", message));
        }
        let set = endpoint.iter().flatten().find(|(_, value)| !is_nothing(value));
        if let Some((property, _)) = set {
            let path = format!("NetworkingConfig.EndpointsConfig.{name}.{property}");
            return Err(refuse(&path, "a container has no address or name of its own"));
        }
    }
    Ok(())
}

fn check_capabilities(names: &[String]) -> Result<(), ApiError> {
    for name in names {
        let upper = name.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if !DEFAULT_CAPABILITIES.contains(&name) {
            let why = format!(
                "`{name}` is not one of the default capabilities; `Privileged` has all, where the service \
                 allows it"
            );
            return Err(refuse("HostConfig.CapAdd", why));
        }
    }
    Ok(())
}

fn check_security(options: &[String]) -> Result<(), ApiError> {
    for option in options {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        let changes_nothing = match name {
            // Nothing of kiln's labels processes.
            "label" | "apparmor" => true,
            // The filter stays.
            "seccomp" => value == "unconfined" || value == "builtin",
            "no-new-privileges" => value == "false",
            _ => false,
        };
        if !changes_nothing {
            return Err(refuse("HostConfig.SecurityOpt", format!("kiln has no `{option}`")));
        }
    }
    Ok(())
}

/// `name:address` or `name=address`.
fn extra_host(text: &str) -> Result<ExtraHost, ApiError> {
    let malformed =
        || wrong("HostConfig.ExtraHosts", format_args!("`{text}` is no `name:address`"));
    let (name, address) = text.split_once([':', '=']).ok_or_else(malformed)?;
    let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = match address {
        "host-gateway" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        address => address.parse().ok(),
    };
    match address.filter(|_| is_name) {
        Some(address) => Ok(ExtraHost { name: name.to_owned(), address }),
        None => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_time_to_stop_is_a_time() {
        let stop_timeout = |value: Value| {
            read_create(json!({ "Image": "app", "StopTimeout": value })).unwrap().0.stop_timeout
        };
        assert_eq!(stop_timeout(json!(0)), Some(Duration::ZERO));
        assert_eq!(stop_timeout(json!(3)), Some(Duration::from_secs(3)));
        assert_eq!(stop_timeout(Value::Null), None);
    }
}
