//! Archives that try to escape the folder they are unpacked into: with ADD, as a context, as a
//! layer of a base. Nothing outside changes, and what is too large is refused.

use std::io::Write as _;
use std::path::Path;

use fixtures::base_image::RawImage;
use fixtures::{Access, Run};
use serde_json::json;

use crate::{kiln, registry, text};

/// A folder beside the build, with a file that must not be touched.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "canary").unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn is_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(std::fs::read_to_string(self.path().join("secret")).unwrap(), "canary");
    }
}

/// A handmade entry, which no writer of archives would produce.
fn member(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000001\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend_from_slice(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut archive = members.concat();
    archive.extend([0; 1024]);
    archive
}

/// All known escapes: `..`, absolute names, links to folders outside and entries behind them, hard
/// links to files outside. The paths are those of `outside`.
fn escapes(outside: &Path) -> Vec<u8> {
    let outside = text(outside);
    let up = format!("../../../../../../../../../../..{outside}");
    archive(&[
        member(&format!("{up}/dotdot"), b'0', "", b"x"),
        member(&format!("{outside}/absolute"), b'0', "", b"x"),
        member("way", b'2', &outside, b""),
        member("way/through", b'0', "", b"x"),
        member("up", b'2', &up, b""),
        member("up/through", b'0', "", b"x"),
        member("file", b'2', &format!("{outside}/secret"), b""),
        member("file", b'0', "", b"replaced"),
        member("pipe", b'6', "", b""),
    ])
}

/// A hard link to a file outside, whose name does not exist inside.
fn hard_link(outside: &Path) -> Vec<u8> {
    archive(&[
        member("stolen", b'1', &format!("{}/secret", text(outside)), b""),
        member("stolen", b'0', "", b"overwritten"),
    ])
}

fn context(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.tar"), archive).unwrap();
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nADD a.tar /in/\n").unwrap();
    folder
}

fn add(archive: &[u8], limit: &str) -> Run {
    let context = context(archive);
    let kiln = kiln();
    let mut command = kiln.command(["build", "--progress", "quiet", &text(context.path())]);
    command.env("KILN_ARCHIVE_LIMIT", limit);
    fixtures::kiln::finish(command, b"")
}

/// A foreign image with one layer.
pub fn image(archive: &[u8]) -> RawImage {
    let diff_id = fixtures::digest(archive);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(archive).unwrap();
    let layer = gzip.finish().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [{}],
    });
    let config = config.to_string().into_bytes();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": fixtures::digest(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": fixtures::digest(&layer), "size": layer.len()}],
    });
    RawImage {
        layers: vec![layer],
        config,
        manifest: manifest.to_string().into_bytes(),
        media_type,
        diff_ids: vec![diff_id],
    }
}

#[test]
fn add_stays_in_its_destination() {
    let canary = Canary::new();
    let run = add(&escapes(canary.path()), "");
    canary.is_untouched();
    run.expect_ok();
    let run = add(&hard_link(canary.path()), "");
    canary.is_untouched();
    assert!(run.refused() && run.stderr.contains("secret"), "{}", run.stderr);
}

#[test]
fn contexts_stay_in_themselves() {
    let canary = Canary::new();
    let mut whole = member("Dockerfile", b'0', "", b"FROM scratch\nCOPY . /in/\n");
    whole.extend(escapes(canary.path()));
    let run = kiln().run_with_input(["build", "--progress", "quiet", "-"], &whole);
    canary.is_untouched();
    run.expect_ok();
}

#[test]
fn layers_stay_in_the_store() {
    let Some(registry) = registry("layers_stay_in_the_store", Access::Open) else { return };
    let canary = Canary::new();
    let base = format!("{}/evil", registry.host());
    registry.put("evil", "escapes", &image(&escapes(canary.path()))).unwrap();
    registry.put("evil", "link", &image(&hard_link(canary.path()))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for tag in ["escapes", "link"] {
        // COPY makes kiln unpack the base, and the result is exported.
        let dockerfile = format!("FROM {base}:{tag} AS base\nFROM scratch\nCOPY --from=base / /\n");
        std::fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let kiln = kiln();
        let out = tempfile::tempdir().unwrap();
        let output = format!("type=local,dest={}", text(&out.path().join("out")));
        let args = ["build", "--progress", "quiet", "-o", &output, &text(folder.path())];
        let run = kiln.run(args);
        canary.is_untouched();
        assert_eq!(run.ok(), tag == "escapes", "{tag}: {}", run.stderr);
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let bomb = archive(&[member("zeros", b'0', "", &vec![0; 3 << 20])]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bomb).unwrap();
    let gzip = gzip.finish().unwrap();
    let hole = archive(&[hole(100 << 30)]);
    let many: Vec<_> = (0..20).map(|n| member(&format!("f{n}"), b'0', "", b"")).collect();
    for (archive, limit, word) in [
        (&gzip, "bytes=2m", "2097152 bytes"),
        (&hole, "", "bytes"),
        (&archive(&many), "entries=19", "19 entries"),
    ] {
        let run = add(archive, limit);
        assert!(run.refused(), "{word}: {}", run.stderr);
        for word in ["archive has more than", word, "KILN_ARCHIVE_LIMIT", "Dockerfile:2"] {
            assert!(run.stderr.contains(word), "no `{word}` in\n{}", run.stderr);
        }
    }
    add(&gzip, "bytes=4m").expect_ok();
    add(&archive(&many), "entries=20").expect_ok();

    let Some(registry) = registry("what_is_too_large_is_refused", Access::Open) else { return };
    let folder = tempfile::tempdir().unwrap();
    let kiln = kiln();
    for (tag, layer, limit) in [("zeros", &bomb, "bytes=2m"), ("hole", &hole, "")] {
        registry.put("bomb", tag, &image(layer)).unwrap();
        let dockerfile = format!("FROM {}/bomb:{tag}\nCOPY Dockerfile /\n", registry.host());
        std::fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let mut command = kiln.command(["build", "--progress", "quiet", &text(folder.path())]);
        command.env("KILN_ARCHIVE_LIMIT", limit);
        let run = fixtures::kiln::finish(command, b"");
        assert!(
            run.refused() && run.stderr.contains("KILN_ARCHIVE_LIMIT"),
            "{tag}: {}",
            run.stderr
        );
    }
    let command = kiln.command(["build", "--progress", "quiet", "-"]);
    let run = fixtures::kiln::finish(command, &hole);
    assert!(run.refused() && run.stderr.contains("KILN_ARCHIVE_LIMIT"), "{}", run.stderr);
}

/// A sparse file of GNU tar with a hole of this many bytes.
fn hole(bytes: u64) -> Vec<u8> {
    let mut sparse = member("hole", b'S', "", b"");
    sparse[386..398].copy_from_slice(b"00000000000\0");
    sparse[398..410].copy_from_slice(b"00000000000\0");
    sparse[483..495].fill(0);
    sparse[483] = 0x80;
    sparse[487..495].copy_from_slice(&bytes.to_be_bytes());
    sparse[257..265].copy_from_slice(b"ustar  \0");
    sparse[148..156].fill(b' ');
    let sum: u32 = sparse[..512].iter().map(|byte| u32::from(*byte)).sum();
    sparse[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    sparse
}
