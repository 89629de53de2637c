//! Mounts: `Binds`, `Mounts` and `Tmpfs` of the body of `POST /containers/create`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{bounded, is_nothing, refuse, short, take, wrong};
use crate::{ApiError, ContainerMount, MountSource};

const NO_NAMES: &str = "there are no volumes with names: bind a folder";

/// The mounts of a body.
#[derive(Debug, Default)]
pub(super) struct ReadMounts {
    pub(super) mounts: Vec<ContainerMount>,
    /// Folders of the container.
    pub(super) volumes: Vec<String>,
    /// Sentences about what has no effect.
    pub(super) notes: Vec<String>,
}

pub(super) fn read(host: &mut Map<String, Value>) -> Result<ReadMounts, ApiError> {
    let mut read = ReadMounts::default();
    for text in bounded("HostConfig.Binds", take::<Vec<String>>(host, "Binds")?)? {
        bind(&text, &mut read)?;
    }
    for body in bounded("HostConfig.Mounts", take::<Vec<MountBody>>(host, "Mounts")?)? {
        body.read(&mut read)?;
    }
    let tmpfs: BTreeMap<String, String> = take(host, "Tmpfs")?;
    for (target, options) in bounded("HostConfig.Tmpfs", tmpfs.into_iter().collect())? {
        tmpfs_mount(target, &options, &mut read)?;
    }
    check_targets(&read)?;
    Ok(read)
}

/// Each path in the container has one mount, and the root none.
fn check_targets(read: &ReadMounts) -> Result<(), ApiError> {
    let normal = |path: &str| Path::new(path).components().collect::<std::path::PathBuf>();
    let targets = read.mounts.iter().map(|mount| normal(&mount.target));
    let mut targets: Vec<_> = targets.chain(read.volumes.iter().map(|path| normal(path))).collect();
    targets.sort();
    let twice = targets.windows(2).find(|pair| pair[0] == pair[1]);
    match twice {
        Some(pair) => {
            let message = format!("Duplicate mount point: {}", pair[0].display());
            Err(ApiError::BadRequest(short(message)))
        }
        None => Ok(()),
    }
}

pub(super) fn check_target(name: &str, target: &str) -> Result<(), ApiError> {
    let path = Path::new(target);
    let names = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let leads_out = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || names == 0 || leads_out {
        let message = format!("invalid mount path: `{target}` must be absolute, and not the root");
        return Err(wrong(name, message));
    }
    Ok(())
}

/// `/source:/target:options`, or `/target`.
fn bind(text: &str, read: &mut ReadMounts) -> Result<(), ApiError> {
    const NAME: &str = "HostConfig.Binds";
    let mut parts = text.split(':');
    let (source, target) = match (parts.next(), parts.next()) {
        (Some(target), None) => {
            check_target(NAME, target)?;
            read.volumes.push(target.to_owned());
            return Ok(());
        }
        (Some(source), Some(target)) => (source, target),
        _ => return Err(wrong(NAME, "it is empty")),
    };
    let options = parts.next().unwrap_or_default();
    if parts.next().is_some() {
        return Err(wrong(NAME, format_args!("`{text}` has too many colons")));
    }
    check_target(NAME, target)?;
    if !source.starts_with('/') {
        return Err(refuse(NAME, format_args!("`{source}`: {NO_NAMES}")));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // Labels of SELinux, and the ways of other systems to keep files.
            "rw" | "z" | "Z" | "cached" | "consistent" | "delegated" | "nocopy" => {}
            "rprivate" | "private" => {}
            other => return Err(unsupported(NAME, other)),
        }
    }
    let source = MountSource::Bind { path: source.to_owned(), create: true };
    read.mounts.push(ContainerMount { target: target.to_owned(), read_only, source });
    Ok(())
}

fn unsupported(name: &str, option: &str) -> ApiError {
    refuse(name, format_args!("kiln has no `{option}`"))
}

/// A mount, with the fields that are read. The rest is in `others`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MountBody {
    r#type: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    consistency: Option<String>,
    bind_options: Option<BindOptions>,
    volume_options: Option<VolumeOptions>,
    tmpfs_options: Option<TmpfsOptions>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    propagation: Option<String>,
    create_mountpoint: Option<bool>,
    // All of a folder is bound, and what is mounted in it is as read-only as the folder.
    #[serde(rename = "ReadOnlyForceRecursive")]
    _force: Option<bool>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    #[serde(rename = "NoCopy")]
    _no_copy: Option<bool>,
    #[serde(rename = "Labels")]
    _labels: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TmpfsOptions {
    size_bytes: Option<u64>,
    mode: Option<u32>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

const MOUNTS: &str = "HostConfig.Mounts";

fn no_others(place: &str, others: &Map<String, Value>) -> Result<(), ApiError> {
    match others.iter().find(|(_, value)| !is_nothing(value)) {
        Some((name, _)) => Err(unsupported(MOUNTS, &format!("{place}{name}"))),
        None => Ok(()),
    }
}

impl MountBody {
    fn read(self, read: &mut ReadMounts) -> Result<(), ApiError> {
        no_others("", &self.others)?;
        let target = self.target.unwrap_or_default();
        check_target(MOUNTS, &target)?;
        if !matches!(
            self.consistency.as_deref().unwrap_or_default(),
            "" | "default" | "consistent" | "cached" | "delegated"
        ) {
            return Err(wrong(MOUNTS, "unknown `Consistency`"));
        }
        let given = self.source.filter(|source| !source.is_empty());
        let source = match (self.r#type.as_deref().unwrap_or_default(), given) {
            ("bind", Some(path)) => bind_source(path, &self.bind_options.unwrap_or_default())?,
            ("bind", None) => return Err(wrong(MOUNTS, "a `bind` has no `Source`")),
            ("tmpfs", None) => tmpfs_source(&self.tmpfs_options.unwrap_or_default())?,
            ("tmpfs", Some(_)) => return Err(wrong(MOUNTS, "a `tmpfs` has a `Source`")),
            ("volume", None) => {
                no_others("VolumeOptions.", &self.volume_options.unwrap_or_default().others)?;
                read.volumes.push(target);
                return Ok(());
            }
            ("volume", Some(name)) => {
                return Err(refuse(MOUNTS, format_args!("`{name}`: {NO_NAMES}")));
            }
            (other, _) => return Err(unsupported(MOUNTS, other)),
        };
        let read_only = self.read_only.unwrap_or(false);
        read.mounts.push(ContainerMount { target, read_only, source });
        Ok(())
    }
}

fn bind_source(path: String, options: &BindOptions) -> Result<MountSource, ApiError> {
    no_others("BindOptions.", &options.others)?;
    match options.propagation.as_deref().unwrap_or_default() {
        "" | "rprivate" | "private" => {}
        other => return Err(unsupported(MOUNTS, other)),
    }
    if !path.starts_with('/') {
        return Err(wrong(MOUNTS, format_args!("`{path}` is not absolute")));
    }
    Ok(MountSource::Bind { path, create: options.create_mountpoint.unwrap_or(false) })
}

fn tmpfs_source(options: &TmpfsOptions) -> Result<MountSource, ApiError> {
    no_others("TmpfsOptions.", &options.others)?;
    check_mode(MOUNTS, options.mode.filter(|mode| *mode > 0))?;
    Ok(MountSource::Tmpfs { size: options.size_bytes.filter(|size| *size > 0) })
}

/// Permissions are the kernel's default.
fn check_mode(name: &str, mode: Option<u32>) -> Result<(), ApiError> {
    match mode {
        None | Some(0o1777) => Ok(()),
        Some(mode) => Err(unsupported(name, &format!("mode={mode:o}"))),
    }
}

/// A folder in memory with options of mount(8), as `size=64m,ro`.
fn tmpfs_mount(target: String, options: &str, read: &mut ReadMounts) -> Result<(), ApiError> {
    const NAME: &str = "HostConfig.Tmpfs";
    check_target(NAME, &target)?;
    let (mut size, mut read_only) = (None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            None if option == "ro" => read_only = true,
            None if matches!(option, "rw" | "exec" | "nosuid" | "nodev") => {}
            None if option == "noexec" => {
                let note = format!("`{NAME}`: programs in `{target}` can be started");
                read.notes.push(note);
            }
            Some(("size", text)) => {
                let wrong = || wrong(NAME, format_args!("`{option}` is no size"));
                size = Some(byte_count(text).ok_or_else(wrong)?);
            }
            Some(("mode", text)) => {
                check_mode(NAME, u32::from_str_radix(text, 8).ok().or(Some(0)))?
            }
            _ => return Err(unsupported(NAME, option)),
        }
    }
    let source = MountSource::Tmpfs { size };
    read.mounts.push(ContainerMount { target, read_only, source });
    Ok(())
}

/// `64m`: a number with `k`, `m` or `g` of 1024, as the kernel reads it.
fn byte_count(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}
