//! CI containers: the isolation that a RUN gets in each, and the equality of the resulting files. The table of
//! `docs/environments.md`. Real programs are tested in `debian`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fixtures::{Access, Dockerd, Run};

use crate::own_images::dockerd_with;
use crate::{kiln, registry, text};

/// A container with its flags for `docker run`, and the isolation that is possible in it.
pub struct Environment {
    pub letter: &'static str,
    flags: &'static [&'static str],
    pub way: Way,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Namespaces,
    /// chroot, with one user.
    OneUser,
    Chroot,
    InPlace,
    None,
}

const CRI_O: &[&str] = &[
    "--cap-drop=ALL",
    "--cap-add=CHOWN",
    "--cap-add=DAC_OVERRIDE",
    "--cap-add=FSETID",
    "--cap-add=FOWNER",
    "--cap-add=SETGID",
    "--cap-add=SETUID",
    "--cap-add=SETPCAP",
    "--cap-add=NET_BIND_SERVICE",
    "--cap-add=KILL",
];

pub const ENVIRONMENTS: &[Environment] = &[
    Environment { letter: "A", flags: &[], way: Way::Chroot },
    // The relevant part of `--privileged`, which needs a machine with all capabilities.
    Environment {
        letter: "B",
        flags: &["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"],
        way: Way::Namespaces,
    },
    Environment { letter: "C", flags: &["--user=1000"], way: Way::None },
    Environment {
        letter: "D",
        flags: &["--security-opt=seccomp=unconfined"],
        way: Way::Namespaces,
    },
    Environment {
        letter: "E",
        flags: &["--security-opt=seccomp=unconfined", "--user=1000"],
        way: Way::OneUser,
    },
    Environment {
        letter: "F",
        flags: &["--user=1000", "--cap-drop=ALL", "--security-opt=no-new-privileges"],
        way: Way::None,
    },
    Environment { letter: "G", flags: CRI_O, way: Way::InPlace },
    Environment {
        letter: "H",
        flags: &["--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined"],
        way: Way::Namespaces,
    },
];

/// Changes of all kinds, as root.
const FILES: &str = r#"
FROM REGISTRY/library/busybox AS other
RUN echo two >/two
FROM REGISTRY/library/busybox
RUN mkdir -p /d/e && echo one >/d/one && ln /d/one /d/two && ln -s one /d/three && chmod 4755 /d/one && rm /bin/wget
RUN --mount=type=cache,target=/cache --mount=type=bind,target=/context --mount=type=tmpfs,target=/scratch \
    --mount=type=bind,from=other,target=/other \
    echo kept >/cache/kept && cp /context/Dockerfile /copied && touch /scratch/gone && cat /other/two >/d/other
RUN rm -r /d/e && mkdir /d/e && mv /d/one /d/four && test -r /proc/self/status && test -d /sys/kernel \
 && test -c /dev/null && echo seen >/dev/null && grep -q localhost /etc/hosts && echo x | cat /dev/stdin >/x
COPY --from=other /two /d/copied
"#;

/// Users other than root.
const USERS: &str = r#"
FROM REGISTRY/library/busybox
RUN echo 'ann:x:500:600::/home/ann:/bin/sh' >>/etc/passwd && mkdir -p /home/ann && chown 500:600 /home/ann
USER ann
RUN id -u >/home/ann/id && cat /proc/self/comm >/home/ann/comm && ls /proc/self/fd >/dev/null
"#;

fn project(place: &Path, name: &str, dockerfile: &str, host: &str) {
    let folder = place.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile.replace("REGISTRY", host)).unwrap();
}

/// The content of an archive, without times. Hard links are listed as files: an overlay breaks those of lower layers, a
/// plain folder does not.
fn listed(archive: &Path) -> BTreeMap<String, String> {
    let entries = fixtures::tar::read(&std::fs::read(archive).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for entry in &entries {
        if let fixtures::tar::Kind::File(bytes) = &entry.kind {
            files.insert(entry.absolute(), fixtures::digest(bytes));
        }
    }
    entries
        .iter()
        .map(|entry| {
            let kind = match &entry.kind {
                fixtures::tar::Kind::File(_) => files[&entry.absolute()].clone(),
                fixtures::tar::Kind::HardLink(target) => {
                    files[&fixtures::tar::absolute(target)].clone()
                }
                other => format!("{other:?}"),
            };
            (entry.absolute(), format!("{kind} {:o} {}:{}", entry.mode, entry.uid, entry.gid))
        })
        .collect()
}

/// Runs a script in an environment. `place` is mounted at `/project`, and its folder `out`, writable, at `/out`.
pub fn run(dockerd: &Dockerd, place: &Path, environment: &Environment, script: &str) -> Run {
    let project = format!("{}:/project:ro", text(place));
    let out = format!("{}:/out", text(&place.join("out")));
    let mut args = vec!["run", "--rm", "--network=host", "--env=HOME=/tmp/home", "--volume"];
    args.extend([&*project, "--volume", &out]);
    args.extend(environment.flags);
    args.extend(["registry.example.com/kiln:ci", "sh", "-euc", script]);
    dockerd.docker(&args)
}

#[test]
fn each_environment_gets_its_way_and_the_same_files() {
    let test = "each_environment_gets_its_way_and_the_same_files";
    let Some(dockerd) = dockerd_with(test, "ci") else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let out = place.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, PermissionsExt::from_mode(0o777)).unwrap();
    project(place.path(), "files", FILES, registry.host());
    project(place.path(), "users", USERS, registry.host());

    let expected: Vec<_> = ["files", "users"]
        .map(|name| {
            let archive = place.path().join(format!("{name}.tar"));
            let output = format!("type=tar,dest={}", text(&archive));
            let project = text(&place.path().join(name));
            kiln().run(["build", "--output", &output, &project]).expect_ok();
            listed(&archive)
        })
        .into();

    for environment in ENVIRONMENTS {
        let letter = environment.letter;
        let build = |name: &str| {
            format!(
                "kiln --root /tmp/kiln build --progress plain --output type=tar,dest=/out/{letter}-{name}.tar /project/{name}"
            )
        };
        let mut script = String::from("mkdir -p /tmp/home; unset KILN_CONTAINER_IS_MINE\n");
        if environment.way == Way::InPlace {
            // Refused without the variable. With it, all files are back in place afterwards.
            script.push_str(&format!("if {}; then exit 9; fi\n", build("files")));
            script.push_str("export KILN_CONTAINER_IS_MINE=1; ls -R /bin /etc /usr >/tmp/before\n");
        }
        script.push_str(&build("files"));
        if environment.way != Way::OneUser {
            script.push_str(&format!("\n{}", build("users")));
        }
        if environment.way == Way::InPlace {
            script.push_str("\nls -R /bin /etc /usr >/tmp/after; cmp /tmp/before /tmp/after");
        }
        let run = run(&dockerd, place.path(), environment, &script);
        let said = run
            .stderr
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("#0 RUN in: "))
            // The usual isolation is not reported.
            .unwrap_or("namespaces")
            .to_owned();
        if environment.way == Way::None {
            assert!(run.refused(), "{letter}: {}", run.stderr);
            for word in [
                "RUN is not possible here",
                "Docker",
                "Kubernetes",
                "OpenShift",
                "GitLab",
                "--isolation=in-place",
                "docs/environments.md",
            ] {
                assert!(run.stderr.contains(word), "{letter}: no `{word}` in {}", run.stderr);
            }
            continue;
        }
        assert!(run.ok(), "{letter}: {}\n{}", run.stdout, run.stderr);
        let way = match environment.way {
            Way::Namespaces | Way::OneUser => "namespaces",
            Way::Chroot => "chroot (no unshare, no mount)",
            Way::InPlace => "in-place",
            Way::None => continue,
        };
        assert!(said.starts_with(way), "{letter}: {said}");
        for (name, expected) in ["files", "users"].iter().zip(&expected) {
            if *name == "users" && environment.way == Way::OneUser {
                continue;
            }
            let found = listed(&out.join(format!("{letter}-{name}.tar")));
            assert_eq!(found, *expected, "{letter}: {name}");
        }
    }
}

#[test]
fn a_run_sees_nothing_of_the_job() {
    let test = "a_run_sees_nothing_of_the_job";
    let Some(dockerd) = dockerd_with(test, "ci") else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(place.path().join("out")).unwrap();
    let dockerfile = "FROM REGISTRY/library/busybox\n\
        RUN env; ls -R / 2>/dev/null | grep -c kiln || true; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; \
        ls /proc/1 /proc/$PPID && exit 3; echo end\n";
    project(place.path(), "project", dockerfile, registry.host());
    let ordinary = &ENVIRONMENTS[0];
    let script = "export JOB_TOKEN=s3cret-of-the-job; mkdir -p $HOME/.docker
        echo '{\"auths\":{\"x\":{\"auth\":\"czNjcmV0OnMzY3JldA==\"}}}' >$HOME/.docker/config.json
        kiln build --progress plain /project/project";
    let run = run(&dockerd, place.path(), ordinary, script).expect_ok();
    assert!(run.stderr.contains("end"), "{}", run.stderr);
    for word in ["s3cret-of-the-job", "czNjcmV0", "KILN_"] {
        assert!(!run.stderr.contains(word), "{word}: {}", run.stderr);
    }
}
