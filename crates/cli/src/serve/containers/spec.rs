//! A container's properties: the engine's in the terms of the crate `containers`, and back.

use std::path::PathBuf;

use ::containers::{
    BindMount, ContainerRecord, HostSettings, ProcessSettings, TmpfsMount, UlimitSetting,
};
use ::engine::{
    ContainerMount, ContainerNetwork, ContainerPort, ContainerSpec, MountSource, SignalNumber,
};
use oci::Config;

/// The place of shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// The settings of the process; what is unset is the image's.
pub(super) fn process(spec: &ContainerSpec, image: &Config) -> ProcessSettings {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let of_image = || SignalNumber::parse(&image.stop_signal).ok();
    ProcessSettings {
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        env: spec.env.clone(),
        user: text(&spec.user),
        working_dir: text(&spec.working_dir),
        hostname: text(&spec.hostname),
        stop_signal: spec.stop_signal.or_else(of_image).map(SignalNumber::number),
        stop_timeout: spec.stop_timeout,
        labels: spec.labels.clone(),
        volumes: spec.volumes.clone(),
        exposed_ports: spec.exposed_ports.iter().map(ToString::to_string).collect(),
        tty: spec.terminal,
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
    }
}

/// The parts of the machine that the container sees.
pub(super) fn host(spec: &ContainerSpec) -> HostSettings {
    let host = &spec.host;
    let mut settings = HostSettings {
        extra_hosts: host
            .extra_hosts
            .iter()
            .map(|extra| (extra.name.clone(), extra.address))
            .collect(),
        no_network: host.network == ContainerNetwork::None,
        privileged: host.privileged,
        read_only: host.read_only_root,
        init: host.init,
        ulimits: host
            .ulimits
            .iter()
            .map(|limit| UlimitSetting {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        auto_remove: host.auto_remove,
        ..HostSettings::default()
    };
    for ContainerMount { target, read_only, source } in &host.mounts {
        let (target, readonly) = (target.clone(), *read_only);
        match source {
            MountSource::Bind { path, create } => settings.binds.push(BindMount {
                source: PathBuf::from(path),
                target,
                readonly,
                creates: *create,
            }),
            MountSource::Tmpfs { size } => {
                settings.tmpfs.push(TmpfsMount { target, size: *size, readonly });
            }
        }
    }
    if let Some(size) = host.shm_size.filter(|size| *size > 0) {
        let target = SHARED_MEMORY.to_owned();
        settings.tmpfs.push(TmpfsMount { target, size: Some(size), readonly: false });
    }
    settings
}

/// The properties as the client gave them.
pub(super) fn kept(record: &ContainerRecord) -> ContainerSpec {
    serde_json::from_value(record.annotation.clone()).unwrap_or_default()
}

/// The properties with what the image gave.
pub(super) fn whole(record: &ContainerRecord) -> ContainerSpec {
    let process = &record.process;
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let spec = kept(record);
    let own_signal = spec.stop_signal;
    let signal = process.stop_signal.map(|number| number.to_string());
    ContainerSpec {
        entrypoint: process.entrypoint.clone(),
        command: process.cmd.clone(),
        env: process.env.clone(),
        user: text(&process.user),
        working_dir: text(&process.working_dir),
        hostname: Some(process.host(&record.id)),
        labels: process.labels.clone(),
        stop_signal: own_signal
            .or_else(|| signal.as_deref().and_then(|text| SignalNumber::parse(text).ok())),
        exposed_ports: process
            .exposed_ports
            .iter()
            .filter_map(|port| ContainerPort::parse(port))
            .collect(),
        volumes: process.volumes.clone(),
        ..spec
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ::engine::{ExtraHost, HostSpec, UlimitSpec};

    #[test]
    fn every_property_arrives() {
        let spec = ContainerSpec {
            image: "app".into(),
            command: Some(vec!["x".into()]),
            user: Some("u".into()),
            stop_timeout: Some(Duration::from_secs(3)),
            exposed_ports: ContainerPort::parse("80").into_iter().collect(),
            terminal: true,
            open_stdin: true,
            stdin_once: true,
            host: HostSpec {
                auto_remove: true,
                init: true,
                privileged: true,
                read_only_root: true,
                network: ContainerNetwork::None,
                mounts: vec![
                    ContainerMount {
                        target: "/w".into(),
                        read_only: true,
                        source: MountSource::Bind { path: "/src".into(), create: true },
                    },
                    ContainerMount {
                        target: "/t".into(),
                        read_only: false,
                        source: MountSource::Tmpfs { size: Some(5) },
                    },
                ],
                extra_hosts: vec![ExtraHost { name: "h".into(), address: [127, 0, 0, 1].into() }],
                ulimits: vec![UlimitSpec { name: "nofile".into(), soft: 1, hard: 2 }],
                shm_size: Some(7),
                ..HostSpec::default()
            },
            ..ContainerSpec::default()
        };
        let image = Config { stop_signal: "SIGQUIT".into(), ..Config::default() };
        let process = process(&spec, &image);
        assert_eq!((process.user.as_str(), process.stop_signal), ("u", Some(3)));
        assert!(process.tty && process.open_stdin && process.stdin_once);
        assert_eq!(process.stop_timeout, Some(Duration::from_secs(3)));
        assert!(process.exposed_ports.contains("80/tcp"));
        let host = host(&spec);
        assert!(host.no_network && host.privileged && host.read_only && host.init);
        assert!(host.auto_remove && host.binds[0].creates && host.binds[0].readonly);
        assert_eq!(host.tmpfs.len(), 2);
        assert_eq!((host.tmpfs[1].target.as_str(), host.tmpfs[1].size), ("/dev/shm", Some(7)));
        assert_eq!((host.ulimits[0].hard, host.extra_hosts[0].0.as_str()), (2, "h"));
    }
}
