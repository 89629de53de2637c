//! Hostile Dockerfiles, which must not reach anything beside their build. The table of `SECURITY.md`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Command;

use fixtures::{Access, Kiln, Run};

use crate::environments::{ENVIRONMENTS, Way, run};
use crate::own_images::dockerd_with;
use crate::{kiln, registry, text};

/// All attacks of a command, once alone and twice concurrently.
const COMMANDS: &str = r#"
FROM REGISTRY/library/busybox AS base
COPY attack /attack
ENV ATTACK=1
FROM base AS one
ARG OUTER INODE PID
RUN exec /attack one --together $OUTER/secret $INODE $PID
FROM base AS two
ARG OUTER INODE PID
RUN exec /attack two --together $OUTER/secret $INODE $PID
FROM base
ARG OUTER INODE PID
RUN exec /attack $OUTER/secret $INODE $PID
COPY --from=one /etc/passwd /one
COPY --from=two /etc/passwd /two
"#;

/// Symbolic links in every place where a path is resolved, and in place of mounts that are moved back.
const PATHS: &str = r#"
FROM REGISTRY/library/busybox AS other
ARG OUTER
RUN ln -s $OUTER /out && ln -s ../../../../../..$OUTER /up && mkdir -p /real && echo inner >/real/file
FROM REGISTRY/library/busybox
ARG OUTER
RUN --mount=type=cache,id=gone,target=/c rmdir /c; ln -s $OUTER "/c (deleted)"
RUN --mount=type=cache,id=gone,target=/c test ! -e /c/secret && echo x >/c/written
RUN --mount=type=cache,id=moved,target=/c mkdir /d; mv /c /d/c; mv /d /e; ln -s $OUTER /d; true
RUN --mount=type=cache,id=moved,target=/c test ! -e /c/secret && echo x >/c/written
RUN --mount=type=cache,id=replaced,target=/c rmdir /c; ln -s $OUTER /c; true
RUN --mount=type=cache,id=replaced,target=/c test ! -e /c/secret && echo x >/c/written
RUN --mount=type=cache,id=links,target=/c ln -sfn $OUTER /c/a; ln -sfn ../../../../../../../..$OUTER /c/b; ln -sfn / /c/r
RUN --mount=type=cache,id=links,target=/c,source=a/made/deep echo x >/c/written
RUN --mount=type=cache,id=links,target=/c,source=b/made test ! -e /c/secret && echo x >/c/written
RUN --mount=type=cache,id=links,target=/c,source=r/made echo x >/c/written
RUN --mount=type=cache,id=links,target=/c,source=a test ! -e /c/secret
RUN ln -s $OUTER /w && ln -s ../../../../../../../..$OUTER /v
WORKDIR /w/made
RUN pwd && echo x >written
WORKDIR /v/other
RUN --mount=type=tmpfs,target=/w/scratch --mount=type=secret,id=s,target=/v/key --mount=type=cache,id=t,target=/w/cache \
    cat /v/key && echo x >/w/scratch/written && echo x >/w/cache/written
RUN --mount=type=bind,from=other,source=real,target=/w/bound cat /w/bound/file
RUN --mount=type=bind,from=other,source=/,target=/o,rw ls -l /o/out /o/up; test ! -e /o/out/secret && echo x >/o/new
COPY --from=other /real/file /w/copied
RUN rm /etc/resolv.conf /etc/hosts 2>/dev/null; ln -sf $OUTER/secret /etc/resolv.conf; ln -sf $OUTER/secret /etc/hosts; true
RUN cat /etc/resolv.conf /etc/hosts >/seen; ! grep s3cret /seen
"#;

/// Mount sources that lead out of the stage. Inside it, there is nothing at these paths.
const SOURCES: [&str; 3] = [
    "--mount=type=bind,from=other,source=out/secret,target=/b",
    "--mount=type=bind,from=other,source=up/secret,target=/b",
    "--mount=type=bind,from=other,source=../../../../..OUTER/secret,target=/b",
];

const NO_COMPILER: &str = "rustc is not for this user";

/// True if this user can run the compiler; rustup's is in the home of the user who installed it.
fn has_compiler() -> bool {
    Command::new("rustc").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compiles the attack, a single file without dependencies.
fn attack_in(folder: &Path) {
    let source = fixtures::source_tree().join("crates/runtime/tests/containers/attack.rs");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-Ctarget-feature=+crt-static", "-Copt-level=1", "-o"]);
    let output = rustc.arg(folder.join("attack")).arg(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn put(place: &Path, name: &str, dockerfile: &str) {
    let folder = place.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
}

/// Writes the hostile projects into folders of `place`.
fn projects(place: &Path, host: &str) -> Vec<String> {
    let with_host = |text: &str| text.replace("REGISTRY", host);
    put(place, "commands", &with_host(COMMANDS));
    attack_in(&place.join("commands"));
    put(place, "paths", &with_host(PATHS));
    let mut names = vec!["commands".to_owned(), "paths".to_owned()];
    let (first, _) = PATHS.split_once("FROM REGISTRY/library/busybox\n").unwrap();
    for (index, source) in SOURCES.iter().enumerate() {
        let name = format!("source-{index}");
        let last = format!(
            "FROM REGISTRY/library/busybox\nARG OUTER\nRUN {} ! grep s3cret /b\n",
            source.replace("OUTER", "/tmp/job")
        );
        put(place, &name, &with_host(&format!("{first}{last}")));
        names.push(name);
    }
    names
}

/// Checks the output of a build of the commands: all attempts were made, and none succeeded.
fn all_held(said: &str, place: &str) {
    let broken: Vec<_> = said.lines().filter(|line| line.contains("BROKEN: ")).collect();
    assert!(broken.is_empty(), "{place}: {broken:#?}");
    let held = said.lines().filter(|line| line.contains(" held: ")).count();
    let tried = said.lines().find_map(|line| line.split_once(" all ")?.1.strip_suffix(" tried"));
    // One more in each of the two concurrent commands.
    assert_eq!(
        tried.map(|count| count.parse::<usize>().unwrap() + 2),
        Some(held),
        "{place}: {said}"
    );
}

/// Runs the attacks in each kind of CI container, as its root user or its only one.
#[test]
fn no_dockerfile_reaches_the_job_in_a_container() {
    let test = "no_dockerfile_reaches_the_job_in_a_container";
    if !cfg!(target_arch = "x86_64") {
        return fixtures::skip(test, "the attacks are for x86_64");
    }
    let Some(dockerd) = dockerd_with(test, "ci") else { return };
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(place.path().join("out")).unwrap();
    let names = projects(place.path(), registry.host());
    let apart = |way| matches!(way, Way::Namespaces | Way::OneUser | Way::Chroot);
    for environment in ENVIRONMENTS.iter().filter(|environment| apart(environment.way)) {
        let letter = environment.letter;
        let mut script = String::from(
            "mkdir -p /tmp/home /tmp/job; echo s3cret >/tmp/job/secret; chmod 600 /tmp/job/secret
             echo key >/tmp/key
             look() { stat -c '%a %u %g %h %Y %Z' /tmp/job/secret; cat /tmp/job/secret; ls -A /tmp/job; }
             look >/tmp/before; inode=$(stat -c %i /tmp/job/secret); TOKEN=s3cret sleep 600 & pid=$!\n",
        );
        for name in &names {
            script.push_str(&format!(
                "echo begin {name} >&2
                 if kiln --root /tmp/kiln build --progress plain --no-cache --secret id=s,src=/tmp/key \\
                   --build-arg OUTER=/tmp/job --build-arg INODE=$inode --build-arg PID=$pid \\
                   --output type=tar,dest=/tmp/out.tar /project/{name}; then echo good {name}; else echo bad {name}; fi
                 look >/tmp/after; cmp /tmp/before /tmp/after || look\n"
            ));
        }
        script.push_str("kill $pid\n");
        let ran = run(&dockerd, place.path(), environment, &script);
        assert!(ran.ok(), "{letter}: {}\n{}", ran.stdout, ran.stderr);
        let (commands, _) = ran.stderr.split_once("begin paths").unwrap();
        all_held(commands, letter);
        let expected = "good commands\ngood paths\nbad source-0\nbad source-1\nbad source-2\n";
        assert_eq!(ran.stdout, expected, "{letter}: {}", ran.stderr);
    }
}

/// Runs the attacks on this machine, as the user of the test.
#[test]
fn no_dockerfile_reaches_the_job_here() {
    let test = "no_dockerfile_reaches_the_job_here";
    if !cfg!(target_arch = "x86_64") {
        return fixtures::skip(test, "the attacks are for x86_64");
    }
    if !has_compiler() {
        return fixtures::skip(test, NO_COMPILER);
    }
    let Some(registry) = registry(test, Access::Open) else { return };
    let place = tempfile::tempdir().unwrap();
    let names = projects(place.path(), registry.host());
    let job = place.path().join("job");
    std::fs::create_dir(&job).unwrap();
    let secret = job.join("secret");
    std::fs::write(&secret, "s3cret").unwrap();
    std::fs::write(place.path().join("key"), "key").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let look = || {
        let found = secret.metadata().unwrap();
        let names = std::fs::read_dir(&job).unwrap().count();
        (
            std::fs::read(&secret).unwrap(),
            found.mode(),
            found.uid(),
            found.nlink(),
            found.ctime(),
            names,
        )
    };
    let before = look();
    let mut process = Command::new("sleep").arg("600").env("TOKEN", "s3cret").spawn().unwrap();
    let isolations: &[&str] =
        if fixtures::is_root() { &["namespaces", "chroot"] } else { &["auto"] };
    for isolation in isolations {
        let kiln = kiln();
        for name in &names {
            let arguments = [
                format!("OUTER={}", job.display()),
                format!("INODE={}", secret.metadata().unwrap().ino()),
                format!("PID={}", process.id()),
            ];
            let ran = build(&kiln, isolation, &place.path().join(name), &arguments);
            if name.starts_with("source") {
                assert!(ran.refused(), "{isolation} {name}: {}", ran.stderr);
            } else {
                assert!(ran.ok(), "{isolation} {name}: {}", ran.stderr);
            }
            if name == "commands" {
                all_held(&ran.stderr, isolation);
            }
            assert_eq!(look(), before, "{isolation} {name}: {}", ran.stderr);
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
}

fn build(kiln: &Kiln, isolation: &str, project: &Path, arguments: &[String]) -> Run {
    let isolation = format!("--isolation={isolation}");
    let secret = format!("id=s,src={}", text(&project.with_file_name("key")));
    let mut args = vec!["build", "--progress=plain", "--no-cache", "--secret", &secret, &isolation];
    for argument in arguments {
        args.extend(["--build-arg", argument]);
    }
    let project = text(project);
    args.extend(["--output=type=tar,dest=out.tar", &project]);
    kiln.run(args)
}
