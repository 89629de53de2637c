//! The flags of `docker run` as the body that docker's client sends.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::args::FlagError;
use crate::human;
use crate::personalities::flags::ParsedFlags;
use crate::settings::Environment;

/// The body of `POST /containers/create`; `attached` is true for `docker run`.
///
/// # Errors
/// If a value is wrong. What the value means is the engine's to judge.
pub(super) fn of(
    given: &ParsedFlags,
    environment: &Environment,
    folder: &Path,
    attached: bool,
) -> Result<Value, FlagError> {
    let Some((image, command)) = given.operands.split_first() else {
        return Err(FlagError::Usage("it takes the name of an image, and a command".to_owned()));
    };
    let interactive = given.is_on("interactive", false);
    let mut body = json!({
        "Image": image,
        "Cmd": Some(command).filter(|words| !words.is_empty()),
        "Env": variables(given, environment)?,
        "WorkingDir": given.last("workdir").unwrap_or_default(),
        "User": given.last("user").unwrap_or_default(),
        "Hostname": given.last("hostname").unwrap_or_default(),
        "StopSignal": given.last("stop-signal").unwrap_or_default(),
        "Labels": pairs(&given.texts("label")),
        "Tty": given.is_on("tty", false),
        "OpenStdin": interactive,
        "StdinOnce": interactive && attached,
        "AttachStdin": interactive && attached,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "ExposedPorts": names(&given.texts("expose")),
    });
    // An empty text takes the image's away.
    if let Some(program) = given.all("entrypoint").last() {
        body["Entrypoint"] = json!([program]);
    }
    if let Some(seconds) = given.last("stop-timeout") {
        body["StopTimeout"] = json!(number("--stop-timeout", seconds)?);
    }
    let mut volumes = Map::new();
    let mut binds = Vec::new();
    for text in given.texts("volume") {
        match text.contains(':') {
            true => binds.push(absolute(&text, folder)),
            false => {
                volumes.insert(text, json!({}));
            }
        }
    }
    body["Volumes"] = volumes.into();
    let mut host = host_config(given)?;
    host["Binds"] = binds.into();
    host["Mounts"] = given
        .texts("mount")
        .iter()
        .map(|text| mount(text, folder))
        .collect::<Result<Vec<_>, _>>()?
        .into();
    body["HostConfig"] = host;
    Ok(body)
}

fn host_config(given: &ParsedFlags) -> Result<Value, FlagError> {
    let mut ports = Map::new();
    for text in given.texts("publish") {
        let (container, binding) = port(&text);
        let list = ports.entry(container).or_insert_with(|| json!([]));
        list.as_array_mut().into_iter().for_each(|list| list.push(binding.clone()));
    }
    let shm_size = given.last("shm-size").map(human::disk_size).transpose();
    let shm_size = shm_size.map_err(|error| FlagError::bad("--shm-size", error))?;
    let hosts: Vec<String> =
        given.texts("add-host").iter().map(|text| text.replacen('=', ":", 1)).collect();
    let tmpfs: Map<String, Value> = given
        .texts("tmpfs")
        .iter()
        .map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), options.into())
        })
        .collect();
    let ulimits: Result<Vec<Value>, FlagError> =
        given.texts("ulimit").iter().map(|text| ulimit(text)).collect();
    Ok(json!({
        "AutoRemove": given.is_on("rm", false),
        "NetworkMode": given.last("network").unwrap_or("default"),
        "PortBindings": ports,
        "ExtraHosts": hosts,
        "Tmpfs": tmpfs,
        "Ulimits": ulimits?,
        "ShmSize": shm_size.unwrap_or(0),
        "ReadonlyRootfs": given.is_on("read-only", false),
        "Init": given.is_on("init", false),
        "Privileged": given.is_on("privileged", false),
        "CapAdd": given.texts("cap-add"),
        "SecurityOpt": given.texts("security-opt"),
    }))
}

/// Variables of files first, then of flags. A name alone has the value that it has here; without one it is left out.
fn variables(given: &ParsedFlags, environment: &Environment) -> Result<Vec<String>, FlagError> {
    let mut variables = Vec::new();
    let mut take = |text: &str| match text.contains('=') {
        true => variables.push(text.to_owned()),
        false => variables.extend(environment.get(text).map(|value| format!("{text}={value}"))),
    };
    for file in given.all("env-file") {
        let text = std::fs::read_to_string(file)
            .map_err(|error| FlagError::bad(format!("--env-file={file}"), error))?;
        let lines = text.lines().map(str::trim_start);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).for_each(&mut take);
    }
    given.all("env").into_iter().for_each(take);
    Ok(variables)
}

fn pairs(texts: &[String]) -> Map<String, Value> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.into())
    };
    texts.iter().map(pair).collect()
}

fn names(texts: &[String]) -> Map<String, Value> {
    let port = |text: &String| match text.contains('/') {
        true => (text.clone(), json!({})),
        false => (format!("{text}/tcp"), json!({})),
    };
    texts.iter().map(port).collect()
}

fn number(flag: &str, text: &str) -> Result<i64, FlagError> {
    text.parse().map_err(|_| FlagError::bad(format!("{flag}={text}"), "it is no number"))
}

/// `[[IP:]PORT:]PORT[/PROTOCOL]`: the port in the container, and where it is published.
fn port(text: &str) -> (String, Value) {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (before, container) = match rest.rsplit_once(':') {
        Some((before, container)) => (Some(before), container),
        None => (None, rest),
    };
    let (address, own) = match before.map(|before| before.rsplit_once(':').unwrap_or(("", before)))
    {
        Some((address, own)) if !own.is_empty() => (address, own),
        // Any port is the same one here.
        Some((address, _)) => (address, container),
        None => ("", container),
    };
    let address = address.trim_matches(['[', ']']);
    (format!("{container}/{protocol}"), json!({ "HostIp": address, "HostPort": own }))
}

fn ulimit(text: &str) -> Result<Value, FlagError> {
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| FlagError::bad(format!("--ulimit={text}"), "it is NAME=SOFT[:HARD]"))?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| number(&format!("--ulimit={name}"), text);
    Ok(json!({ "Name": name, "Soft": value(soft)?, "Hard": value(hard)? }))
}

/// A relative source begins at the folder in which the command was typed.
fn absolute(bind: &str, folder: &Path) -> String {
    match bind.starts_with("./") || bind.starts_with("../") || bind.starts_with(".:") {
        true => folder.join(bind).to_string_lossy().into_owned(),
        false => bind.to_owned(),
    }
}

/// `type=bind,src=…,dst=…,ro`.
fn mount(text: &str, folder: &Path) -> Result<Value, FlagError> {
    let flag = || format!("--mount={text}");
    let mut mount = json!({ "Type": "volume" });
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        match key {
            "type" => mount["Type"] = value.into(),
            "source" | "src" => {
                let path = match value.starts_with('.') {
                    true => folder.join(value).to_string_lossy().into_owned(),
                    false => value.to_owned(),
                };
                mount["Source"] = path.into();
            }
            "target" | "dst" | "destination" => mount["Target"] = value.into(),
            "readonly" | "ro" => mount["ReadOnly"] = (value == "true" || value == "1").into(),
            "tmpfs-size" => {
                let size = human::disk_size(value);
                let size = size.map_err(|error| FlagError::bad(flag(), error))?;
                mount["TmpfsOptions"] = json!({ "SizeBytes": size });
            }
            "consistency" => mount["Consistency"] = value.into(),
            other => {
                let reason = format!("`{other}` is not one of type, src, dst, ro and tmpfs-size");
                return Err(FlagError::bad(flag(), reason));
            }
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personalities::docker::containers::CONTAINER_COMMANDS;
    use crate::personalities::flags::{self, Operands};

    fn body(line: &str) -> Result<Value, FlagError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let rows = CONTAINER_COMMANDS.iter().find(|row| row.path == "run").unwrap().flags;
        let given = flags::read(rows, &words, Operands::End)?;
        let environment = Environment::of(&[("HOME", "/root")]);
        of(&given, &environment, Path::new("/here"), true)
    }

    #[test]
    fn the_usual_lines_are_understood() {
        let run =
            body("--rm -i -v ./src:/w:ro -v /data -w /w -e K=V -e HOME -e NONE app:1 make -j2")
                .unwrap();
        assert_eq!(run["Image"], "app:1");
        assert_eq!(run["Cmd"], json!(["make", "-j2"]));
        assert_eq!(run["Env"], json!(["K=V", "HOME=/root"]));
        assert_eq!(run["HostConfig"]["Binds"], json!(["/here/./src:/w:ro"]));
        assert_eq!(run["Volumes"], json!({ "/data": {} }));
        assert_eq!(run["HostConfig"]["AutoRemove"], true);
        assert_eq!((&run["OpenStdin"], &run["StdinOnce"]), (&json!(true), &json!(true)));
        let (spec, notes) = ::engine::read_create(run).unwrap();
        assert_eq!(notes, [""; 0]);
        assert_eq!(spec.working_dir.as_deref(), Some("/w"));
    }

    #[test]
    fn values_become_dockers_json() {
        let run = body(
            "--entrypoint= --label a=b --ulimit nofile=1:2 --tmpfs /t:size=1m --shm-size 1m -p 80 \
             -p 127.0.0.1:81:81/udp --expose 90 --add-host h=127.0.0.1 --stop-timeout 3 \
             --mount type=bind,src=./s,dst=/d,ro app",
        )
        .unwrap();
        assert_eq!(run["Entrypoint"], json!([""]));
        assert_eq!(run["HostConfig"]["Ulimits"][0]["Hard"], 2);
        assert_eq!(run["HostConfig"]["ShmSize"], 1 << 20);
        assert_eq!(run["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "80");
        assert_eq!(run["HostConfig"]["PortBindings"]["81/udp"][0]["HostIp"], "127.0.0.1");
        assert_eq!(run["HostConfig"]["Mounts"][0]["Source"], "/here/./s");
        assert_eq!(run["ExposedPorts"], json!({ "90/tcp": {} }));
        let spec = ::engine::read_create(run).unwrap().0;
        assert_eq!(spec.host.extra_hosts[0].name, "h");
        assert_eq!(spec.host.published.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("--rm", "name of an image"),
            ("--ulimit x app", "--ulimit=x"),
            ("--stop-timeout soon app", "no number"),
            ("--mount kind=bind app", "`kind`"),
            ("--env-file /none app", "--env-file"),
        ] {
            let error = body(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
        for (line, word) in [("-v data:/d app", "volume"), ("-p 8080:80 app", "`8080`")] {
            let error = ::engine::read_create(body(line).unwrap()).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
