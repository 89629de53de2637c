//! kiln's output, read by skopeo and umoci.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use fixtures::{Access, Kiln};
use serde_json::Value;

use crate::{context_of, kiln, program, registry, text};

const DOCKERFILE: &str = "\
FROM scratch
COPY --chown=7:8 --chmod=750 a.txt /d/
COPY links/ /d/
ENV NAME=value
CMD [\"/d/a.txt\"]
";

fn build(kiln: &Kiln, outputs: &[String]) -> tempfile::TempDir {
    let context =
        context_of(&[("Dockerfile", DOCKERFILE), ("a.txt", "alpha\n"), ("links/b.txt", "beta\n")]);
    std::os::unix::fs::symlink("a.txt", context.path().join("links/link")).unwrap();
    let mut args: Vec<String> = ["build", "--progress", "plain"].map(String::from).into();
    args.extend(outputs.iter().flat_map(|output| ["--output".to_owned(), output.clone()]));
    args.push(text(context.path()));
    kiln.run(args).expect_ok();
    context
}

fn read(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_archives() {
    let Some(skopeo) = program("skopeo", "skopeo") else { return };
    let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
    let file = |name: &str| text(&place.path().join(name));
    let (oci, docker) = (file("oci.tar"), file("docker.tar"));
    let folder = file("folder");
    build(
        &kiln,
        &[
            format!("type=oci,dest={oci}"),
            format!("type=docker,dest={docker},name=example.com/app:1"),
            format!("type=oci,tar=false,dest={folder}"),
        ],
    );
    for source in
        [format!("oci-archive:{oci}"), format!("docker-archive:{docker}"), format!("oci:{folder}")]
    {
        let config = read(Command::new(&skopeo).args([
            "--tmpdir",
            &file(""),
            "inspect",
            "--config",
            &source,
        ]));
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "/d/a.txt", "{source}");
        // Copying reads and checks every layer.
        let copy = format!("dir:{}", file("copy"));
        read(Command::new(&skopeo).args([
            "--tmpdir",
            &file(""),
            "--insecure-policy",
            "copy",
            &source,
            &copy,
        ]));
        std::fs::remove_dir_all(place.path().join("copy")).unwrap();
    }
}

#[test]
fn umoci_unpacks_what_is_pushed() {
    let Some(skopeo) = program("umoci", "skopeo") else { return };
    let Some(umoci) = program("umoci", "umoci") else { return };
    let Some(registry) = registry("umoci", Access::Open) else { return };
    let (kiln, place) = (kiln(), tempfile::tempdir().unwrap());
    let reference = format!("{}/app:1", registry.host());
    build(&kiln, &[format!("type=registry,name={reference}")]);
    let layout = place.path().join("layout");
    let (from, to) = (format!("docker://{reference}"), format!("oci:{}:1", text(&layout)));
    read(Command::new(skopeo).args(["--tmpdir", &text(place.path())]).args([
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        &from,
        &to,
    ]));
    let bundle = place.path().join("bundle");
    let mut unpack = Command::new(umoci);
    unpack.args(["unpack", "--image", &format!("{}:1", text(&layout))]);
    if !fixtures::is_root() {
        unpack.arg("--rootless");
    }
    read(unpack.arg(&bundle));
    let file = bundle.join("rootfs/d/a.txt");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "alpha\n");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(std::fs::read_link(bundle.join("rootfs/d/link")).unwrap().to_str(), Some("a.txt"));
    if fixtures::is_root() {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    }
}
