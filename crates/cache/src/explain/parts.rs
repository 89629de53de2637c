//! The ingredients of a step's key by names that people know.

use std::collections::BTreeMap;

use graph::{
    Action, ActionKind, ChmodMode, CopyAction, FilesOp, Mount, MountKind, Network, Operation,
    Owner, OwnerName, RunOp, Security, Step,
};
use oci::Digest;

type KeyParts = BTreeMap<String, String>;

/// Longer values are cut, and secrets of addresses left out: what differs shows in the digest
/// behind them.
const LONGEST: usize = 600;

/// The kind of a step's operation, and the parts of its key.
pub(super) fn of(step: &Step) -> (&'static str, KeyParts) {
    let mut parts = KeyParts::new();
    let kind = match &step.operation {
        Operation::Run(run) => {
            of_run(run, &mut parts);
            // The keys of other operations have no platform.
            add(&mut parts, "platform", &step.platform.to_string());
            "run"
        }
        Operation::Files(files) => {
            of_files(files, &mut parts);
            "files"
        }
        Operation::Merge => "merge",
        Operation::Image(_) | Operation::Local(_) | Operation::Http(_) | Operation::Git(_) => {
            "source"
        }
    };
    (kind, parts)
}

fn of_run(run: &RunOp, parts: &mut KeyParts) {
    match &run.args[..] {
        [shell @ .., command]
            if !shell.is_empty() && shell.last().is_some_and(|arg| arg == "-c") =>
        {
            add(parts, "command", command);
            add(parts, "shell", &shell.join(" "));
        }
        args => add(parts, "command", &args.join(" ")),
    }
    for (name, value) in &run.env {
        let label = format!("environment variable {name}");
        match looks_secret(name) {
            true => {
                parts.insert(label, format!("(kept as a digest) {}", short(Digest::of(value))));
            }
            false => add(parts, &label, value),
        }
    }
    add(parts, "working directory", &run.cwd);
    add(parts, "user", &run.user);
    add(parts, "host name", &run.hostname);
    add(parts, "control group", &run.cgroup_parent);
    for (host, _) in &run.extra_hosts {
        add(parts, &format!("host {host}"), "added");
    }
    for limit in &run.ulimits {
        add(parts, &format!("limit {}", limit.name), &format!("{}:{}", limit.soft, limit.hard));
    }
    match run.network {
        Network::Default => (),
        Network::Host => add(parts, "network", "host"),
        Network::None => add(parts, "network", "none"),
    }
    if run.security == Security::Insecure {
        add(parts, "security", "insecure");
    }
    for secret in &run.secret_env {
        let optional = if secret.optional { ", optional" } else { "" };
        add(parts, &format!("secret in {}", secret.name), &format!("{}{optional}", secret.id));
    }
    for mount in run.mounts.iter().filter(|mount| mount.target != "/") {
        let (label, value) = of_mount(mount);
        add(parts, &label, &value);
    }
}

fn of_mount(mount: &Mount) -> (String, String) {
    let kind = match &mount.kind {
        MountKind::Bind => format!("bind {}", mount.selector),
        MountKind::Cache { id, sharing } => {
            format!("cache {id}, {}", format!("{sharing:?}").to_lowercase())
        }
        MountKind::Tmpfs { size } => format!("tmpfs of {size} bytes"),
        MountKind::Secret { id, uid, gid, mode, optional } => {
            format!("secret {id}, {uid}:{gid} {mode:04o}, optional {optional}")
        }
        MountKind::Ssh { id, uid, gid, mode, optional } => {
            format!("ssh {id}, {uid}:{gid} {mode:04o}, optional {optional}")
        }
    };
    let readonly = if mount.readonly { ", read-only" } else { "" };
    (format!("mount {}", mount.target), format!("{kind}{readonly}"))
}

fn of_files(files: &FilesOp, parts: &mut KeyParts) {
    let several = files.actions.len() > 1;
    for (number, Action { kind, .. }) in (1..).zip(&files.actions) {
        let numbered = |label: &str| match several {
            true => format!("{label} {number}"),
            false => label.to_owned(),
        };
        match kind {
            ActionKind::Copy(copy) => of_copy(copy, parts, &numbered),
            ActionKind::MakeFile { path, mode, data } => {
                let digest = short(Digest::of(data));
                let text = format!("{path}, {mode:04o}, {} bytes, digest {digest}", data.len());
                add(parts, &numbered("inline file"), &text);
            }
            ActionKind::MakeDir { path, mode, owner: whose, timestamp, .. } => {
                let whose = whose.as_ref().map(|whose| format!(" {}", owner(whose)));
                let whose = whose.unwrap_or_default();
                let time = timestamp.map(|time| format!(" at {time}")).unwrap_or_default();
                add(parts, &numbered("folder"), &format!("{path} {mode:04o}{whose}{time}"));
            }
        }
    }
}

fn of_copy(copy: &CopyAction, parts: &mut KeyParts, numbered: &dyn Fn(&str) -> String) {
    add(parts, &numbered("source"), &copy.source);
    add(parts, &numbered("destination"), &copy.destination);
    add(parts, &numbered("chown"), &copy.owner.as_ref().map(owner).unwrap_or_default());
    let mode = match &copy.mode {
        None => String::new(),
        Some(ChmodMode::Octal(mode)) => format!("{mode:04o}"),
        Some(ChmodMode::Symbolic(mode)) => mode.clone(),
    };
    add(parts, &numbered("chmod"), &mode);
    add(parts, &numbered("include"), &copy.include.join(" "));
    add(parts, &numbered("exclude"), &copy.exclude.join(" "));
    for (label, is_on) in [
        ("follows links", copy.follow_symlinks),
        ("contents of a folder", copy.copy_dir_contents),
        ("unpacks", copy.unpack),
        ("replaces", copy.replace_existing),
    ] {
        add(parts, &numbered(label), if is_on { "yes" } else { "" });
    }
}

fn owner(owner: &Owner) -> String {
    let name = |name: &OwnerName| match name {
        OwnerName::Id(id) => id.to_string(),
        OwnerName::Name { name, .. } => name.clone(),
    };
    let user = owner.user.as_ref().map(name).unwrap_or_default();
    match &owner.group {
        Some(group) => format!("{user}:{}", name(group)),
        None => user,
    }
}

/// Adds what there is. Nothing is the same as not there.
fn add(parts: &mut KeyParts, label: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let shown = oci::shown_text(value);
    let end = shown.floor_char_boundary(LONGEST);
    let cut = if end < shown.len() { "…" } else { "" };
    let text = match shown == value && cut.is_empty() {
        true => shown,
        false => format!("{}{cut} (digest {})", &shown[..end], short(Digest::of(value))),
    };
    parts.insert(label.to_owned(), text);
}

/// True if a variable's name suggests a secret. Build arguments should have none, but some have.
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    const WORDS: [&str; 9] = [
        "SECRET",
        "TOKEN",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "PRIVATE",
        "AUTH",
        "KEY",
    ];
    WORDS.iter().any(|word| name.contains(word)) || name.ends_with("_PASS") || name == "PASS"
}

/// Enough of a digest to tell things apart.
pub(super) fn short(digest: Digest) -> String {
    digest.hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_could_be_secrets_are_digests() {
        let run = RunOp {
            args: ["/bin/sh", "-c", "make"].map(String::from).to_vec(),
            env: [("PATH", "/bin"), ("NPM_TOKEN", "abc"), ("api_key", "xyz"), ("EMPTY", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..RunOp::default()
        };
        let mut parts = KeyParts::new();
        of_run(&run, &mut parts);
        assert_eq!(parts["command"], "make");
        assert_eq!(parts["shell"], "/bin/sh -c");
        assert_eq!(parts["environment variable PATH"], "/bin");
        let all = format!("{parts:?}");
        assert!(!all.contains("abc") && !all.contains("xyz"), "{all}");
        assert!(parts["environment variable NPM_TOKEN"].starts_with("(kept as a digest) "));
        assert!(looks_secret("GITHUB_AUTH") && !looks_secret("PWD") && !looks_secret("VERSION"));
    }

    #[test]
    fn long_values_are_cut_and_differ_all_the_same() {
        let mut parts = KeyParts::new();
        let long = "é".repeat(5000);
        add(&mut parts, "a", &long);
        add(&mut parts, "b", &format!("{long}x"));
        assert!(parts["a"].len() < 700 && parts["a"] != parts["b"]);
    }
}
