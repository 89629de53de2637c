//! `docs/personalities.md` is generated from the tables: `KILN_WRITE_DOCS=1 cargo test docs` writes
//! it, and without the variable the test compares.

use clap::CommandFactory as _;

use super::docker::commands::{Does, commands};
use super::flags::Flag;
use super::{bake, buildctl, daemon, docker, kaniko, makisu};
use crate::args::Cli;

/// The flags of `docker build` and `docker buildx build`, hidden and deprecated ones included.
const BUILD_FLAGS: &[&str] = &[
    "add-host",
    "allow",
    "annotation",
    "attest",
    "build-arg",
    "build-context",
    "builder",
    "cache-from",
    "cache-to",
    "call",
    "cgroup-parent",
    "check",
    "compress",
    "cpu-period",
    "cpu-quota",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "debug",
    "disable-content-trust",
    "file",
    "force-rm",
    "iidfile",
    "isolation",
    "label",
    "load",
    "memory",
    "memory-swap",
    "metadata-file",
    "network",
    "no-cache",
    "no-cache-filter",
    "output",
    "platform",
    "policy",
    "print",
    "progress",
    "provenance",
    "pull",
    "push",
    "quiet",
    "resource",
    "rm",
    "sbom",
    "secret",
    "security-opt",
    "shm-size",
    "squash",
    "ssh",
    "tag",
    "target",
    "ulimit",
];

const HEAD: &str = "\
# Other tools' command lines

kiln speaks the command lines of `docker` (with `docker buildx` and `bake`), kaniko (`executor`, `warmer`), Makisu and
`buildctl` (also as `buildctl-daemonless.sh`). The name that it is started under chooses: make a link, or put the tool's
name behind `kiln`:

```
ln -s /usr/local/bin/kiln /usr/local/bin/docker
docker build -t app .
kiln docker build -t app .        # the same
kiln kaniko --context . --no-push
```

Each flag of each tool is honoured, accepted because it asks for what is the case anyway, accepted with a note on standard
error, or refused with a sentence and a non-zero exit that says what works instead. None is ignored in silence. This page
is made of the tables that the flags are read by; a test compares them.

";

const DOCKER: &str = "\
## docker

There is no engine. A container runs as long as its `docker run` does; what has to outlive a command takes `kiln serve`.
Images and containers are kept in kiln's root, so that `docker push`, `tag`, `save`, `cp` and a `FROM` find what
`docker build` and `docker create` made in the same job; `--load` and `--output type=docker` keep it there too. `DOCKER_HOST` and the other
settings of Docker-in-Docker change nothing. A build whose `--cache-from` names an image and that has no `--cache-to`
leaves an inline cache in its image, so that the next machine finds it; a cache that is not there is a warning. With
`DOCKER_BUILDKIT=0` the last lines are those of the old builder (`Successfully built …`). `--format` takes Go templates:
fields, variables, `json`, `index`, `join`, `split`, `range`, `if`, `with`, comparisons, `printf`. Exit codes are docker's: 125 for a
flag that is not known, else 1. Sizes of images are those of their layers as they are sent: compressed, where an
engine shows them unpacked.

";

const BAKE: &str = "\
## bake

`docker buildx bake` (and `kiln bake`) reads HCL, JSON and compose files: variables with their types and validations,
functions, `matrix`, `inherits`, groups, `target.NAME.ATTRIBUTE`, overrides by the environment, `--var` and `--set`,
`--print`. Compose files know `.env` and `env_file`, `name` (`COMPOSE_PROJECT_NAME`), `extends`, `include`, `!reset` and `!override`;
several files, and several documents of a file, are put together. A variable that has no value is named in a note. An attribute that is not known
changes nothing, which is said. Targets are built side by side, and a step that several have is run once. A context `target:NAME` is the image that the other target makes; its
cache keys rest on that image's digest, where BuildKit's rest on the other target's steps. `--print` writes caches, outputs,
secrets and SSH agents as objects. Of the functions of bake's library those are there that work on texts, numbers, lists and
maps, regular expressions, versions, CSV, JSON, base64, digests, times, networks and UUIDs; another (RSA, bcrypt, bytes) is
refused by its name. Definitions from a repository or a URL are refused; `resources` is noted. A policy beside a Dockerfile (`Dockerfile.rego`), which
buildx evaluates and kiln does not, makes a build of it fail, with every command line that knows policies; `--policy
disabled=true`, or `policy = [{ disabled = true }]` in the target, builds without it.

";

const DAEMONS: &str = "\
## dockerd and buildkitd

`dockerd`, `dockerd-entrypoint.sh` (as the image `docker:dind` starts it) and `buildkitd` are `kiln serve` on the addresses
that clients of the other daemon expect: [engine.md](engine.md) has what is served.

`dockerd-entrypoint.sh` listens on TCP too. With `DOCKER_TLS_CERTDIR` (the image has `/certs`) that is port 2376, for clients
with a certificate: an authority, the server's and the clients' certificates are made in its folders `ca`, `server` and
`client` where they are missing, end within a month, or lack one of the service's names: the host's, those and the
addresses that `/etc/hosts` has for it, `docker`, `localhost`, `127.0.0.1`, `::1`, and those of `DOCKER_TLS_SAN`
(`DNS:docker.example.com,IP:10.0.0.1`). Keys stay as they are; so does a folder with `server/{ca,cert,key}.pem` and no `ca/key.pem`,
which is the user's. Without `DOCKER_TLS_CERTDIR`, or with an empty one, it is port 2375 without TLS, and a warning. Flags are
added to those; `dockerd` before them takes their place, and any other program is started.

";

fn flags_table(out: &mut String, title: &str, rows: &[Flag]) {
    out.push_str(&format!("### {title}\n\n| flag | what becomes of it |\n|---|---|\n"));
    for row in rows {
        let aliases: String = row.aliases.iter().map(|alias| format!(", `--{alias}`")).collect();
        out.push_str(&format!("| `{}`{aliases} | {} |\n", row.spelling(), cell(&row.outcome())));
    }
    out.push('\n');
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page without the table of `kiln build`'s flags.
fn page() -> String {
    let mut out = HEAD.to_owned();
    out.push_str(DOCKER);
    out.push_str("### Commands\n\n| command | what it does |\n|---|---|\n");
    for row in commands() {
        let aliases: String =
            row.aliases.iter().map(|alias| format!(", `docker {alias}`")).collect();
        out.push_str(&format!("| `docker {}`{aliases} | {} |\n", row.path, cell(&row.outcome())));
    }
    out.push('\n');
    flags_table(&mut out, "Before the command", docker::GLOBAL);
    flags_table(&mut out, "Between `buildx` and its command", docker::BUILDX_GLOBAL);
    for row in commands().filter(|row| !row.flags.is_empty()) {
        debug_assert!(matches!(row.does, Does::Own(..) | Does::Command(..)));
        flags_table(&mut out, &format!("`docker {}`", row.path), row.flags);
    }
    out.push_str(BAKE);
    flags_table(&mut out, "`docker buildx bake`", bake::BAKE);
    out.push_str("## kaniko\n\nImages, digests and names come out as with kaniko; the build leaves the files of the container around it as they are.\n\n");
    flags_table(&mut out, "`executor`", kaniko::EXECUTOR);
    flags_table(&mut out, "`warmer`", kaniko::WARMER);
    out.push_str("## Makisu\n\n");
    flags_table(&mut out, "Every command", makisu::GLOBAL);
    flags_table(&mut out, "`makisu build`", makisu::BUILD);
    flags_table(&mut out, "`makisu push`", makisu::PUSH);
    flags_table(&mut out, "`makisu pull`", makisu::PULL);
    flags_table(&mut out, "`makisu diff`", makisu::DIFF);
    out.push_str(
        "`makisu diff` compares images that are here by their names or IDs, and pulls those that are not. It prints a line for each\n\
         value of the configs and each path: `+` only the second has it, `-` only the first, `~` it differs, and in what.\n\n\
         Of registry files, `security.tls.ca.cert`, `security.tls.ca.disabled`, `security.tls.client.{cert,key,disabled}` and\n\
         `security.basic.{username,password,password_file}` are honoured; `concurrency`, `timeout`, the retries, `push_rate` and\n\
         `push_chunk` are accepted with a note; a passphrase and `credsStore` are refused with what to do. The options of the first\n\
         pattern that an image's name matches count; for other images of the host those of its first pattern.\n\n",
    );
    out.push_str("## buildctl\n\nThe build runs in this process: `--addr` is noted and `BUILDKIT_HOST` changes nothing; of `BUILDKITD_FLAGS`, `--config` names a `buildkitd.toml` whose registries count. `buildctl du`, `prune` and `debug workers` are there; what needs a daemon is refused.\n\n");
    flags_table(&mut out, "Before the command", buildctl::GLOBAL);
    flags_table(&mut out, "`buildctl build`", buildctl::BUILD);
    out.push_str("### `--opt`\n\n| option | what becomes of it |\n|---|---|\n");
    for (name, what) in buildctl::OPTIONS {
        out.push_str(&format!("| `{name}` | {} |\n", cell(what)));
    }
    out.push('\n');
    flags_table(&mut out, "`buildctl du`", buildctl::DU);
    flags_table(&mut out, "`buildctl prune`", buildctl::PRUNE);
    out.push_str(DAEMONS);
    flags_table(&mut out, "`dockerd`", daemon::rows::DOCKERD);
    file_table(&mut out);
    flags_table(&mut out, "`buildkitd`", daemon::rows::BUILDKITD);
    out
}

/// The keys of `daemon.json`.
fn file_table(out: &mut String) {
    out.push_str(
        "### `daemon.json`\n\nThe file of `--config-file`, `/etc/docker/daemon.json`, or for ordinary users `docker/daemon.json` in\n\
         `~/.config`. A key has the handling of its flag; a key that dockerd does not have is refused, and so is an option that is\n\
         given in the file and as a flag.\n\n| key | what becomes of it |\n|---|---|\n",
    );
    for row in daemon::DAEMON_JSON.iter().filter(|row| !row.flags().is_empty()) {
        let flags: Vec<String> = row.flags().iter().map(|flag| format!("`--{flag}`")).collect();
        out.push_str(&format!("| `{}` | as {} |\n", row.name, flags.join(", ")));
    }
    for (name, outcome) in daemon::BUILDER_KEYS {
        out.push_str(&format!("| `{name}` | {} |\n", cell(outcome)));
    }
    out.push('\n');
}

/// The flags of `docker build`, as kiln's own help has them.
fn build_flags() -> String {
    let mut out = "## Flags of `docker build`\n\nThose of `kiln build`, whose help says more:\n\n\
        | flag | what becomes of it |\n|---|---|\n"
        .to_owned();
    let mut command = Cli::command();
    command.build();
    let build = command.find_subcommand("build").unwrap();
    for name in BUILD_FLAGS {
        let argument = build
            .get_arguments()
            .find(|argument| argument.get_long() == Some(name))
            .unwrap_or_else(|| panic!("`kiln build` does not know `--{name}`"));
        let what = match argument.is_hide_set() {
            true => crate::args::described(name)
                .unwrap_or_else(|| panic!("nothing says what becomes of `--{name}`")),
            false => argument.get_help().map(ToString::to_string).unwrap_or_default(),
        };
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        out.push_str(&format!("| `{short}--{name}` | {} |\n", cell(&what)));
    }
    out
}

#[test]
fn the_page_has_every_table() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/personalities.md");
    if std::env::var_os("KILN_WRITE_DOCS").is_some() {
        std::fs::write(file, page() + &build_flags()).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == page() + &build_flags(),
        "docs/personalities.md is not what the tables say: write it again with \
         `KILN_WRITE_DOCS=1 cargo test -p kiln docs`"
    );
}
