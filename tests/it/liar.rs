//! Caches with false statements about a base pinned by digest: in the layer index of the base
//! beside them, or in the diffIDs of their own layers. A build that names such a cache gets what
//! its writer says, or the truth with a warning. All others get the truth, whatever root or cache
//! the first one left.

use std::path::{Path, PathBuf};

use fixtures::image::Layout;
use fixtures::tar::{self, Kind};
use fixtures::{Access, DockerRegistry, Kiln, Run};
use layer::{Entry, EntryKind, LayerIndex};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hostile::image;
use crate::{context_of, kiln, registry, text};

/// A base in a registry, and a cache in a folder that has the index of its layer.
struct World {
    _registry: DockerRegistry,
    base: String,
    /// The diffID of the base's layer.
    diff_id: String,
    folder: TempDir,
}

impl World {
    fn new(test: &str) -> Option<Self> {
        let registry = registry(test, Access::Open)?;
        let file = |path: &str, text: &str| {
            tar::Entry::new(path, Kind::File(text.as_bytes().to_vec()), 0o644)
        };
        let archive = tar::write(&[
            tar::Entry::new("d", Kind::Folder, 0o755),
            file("d/early", "early"),
            file("d/evil", "evil"),
            file("d/good", "good"),
            tar::Entry::new("etc", Kind::Folder, 0o755),
            file("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        ]);
        let image = image(&archive);
        registry.put("base", "1", &image).unwrap();
        let base = format!("{}/base@{}", registry.host(), fixtures::digest(&image.manifest));
        let diff_id = image.diff_ids[0].clone();
        let folder = tempfile::tempdir().unwrap();
        let world = Self { _registry: registry, base, diff_id, folder };
        let seed = "FROM BASE\nCOPY a.txt /seed/\n";
        let to = format!("--cache-to=type=local,dest={},mode=max", text(&world.honest()));
        world.build(&kiln(), seed, &[&to]).0.expect_ok();
        Some(world)
    }

    /// The cache as kiln wrote it.
    fn honest(&self) -> PathBuf {
        self.folder.path().join("honest")
    }

    /// A copy of the cache, to be changed.
    fn cache(&self, name: &str) -> Cache {
        let folder = self.folder.path().join(name);
        fixtures::context::copy(&self.honest(), &folder).unwrap();
        Cache(folder)
    }

    /// Builds, and returns the content of the image's highest layer, without times.
    fn build(&self, kiln: &Kiln, dockerfile: &str, more: &[&str]) -> (Run, Vec<tar::Entry>) {
        let dockerfile = dockerfile.replace("BASE", &self.base);
        let context = context_of(&[("Dockerfile", &dockerfile), ("a.txt", "text")]);
        let out = context.path().join("out");
        let output = format!("--output=type=oci,tar=false,dest={}", text(&out));
        let context_path = text(context.path());
        let args = ["build", "--progress=plain", &output, &context_path];
        let run = kiln.run(args.into_iter().chain(more.iter().copied()));
        let layer = if run.ok() { highest_layer(&out) } else { Vec::new() };
        (run, layer)
    }

    /// The index of the base's layer beside a cache.
    fn index(&self, cache: &Cache) -> Option<LayerIndex> {
        let mut found = None;
        for pack in cache.packs() {
            for (diff_id, index) in unpack(&pack) {
                if format!("sha256:{}", hex(&diff_id)) == self.diff_id {
                    found = Some(LayerIndex::decode(&index).unwrap());
                }
            }
        }
        found
    }

    /// Replaces the index of the base's layer beside a cache.
    fn lie(&self, cache: &Cache, change: fn(&mut Vec<Entry>)) {
        let changed = |pack: &[u8]| {
            let mut new = pack[..5].to_vec();
            for (diff_id, mut index) in unpack(pack) {
                if format!("sha256:{}", hex(&diff_id)) == self.diff_id {
                    let mut entries = LayerIndex::decode(&index).unwrap().into_entries();
                    change(&mut entries);
                    index = LayerIndex::from_entries(entries).encode();
                }
                new.extend_from_slice(&diff_id);
                new.extend_from_slice(&(index.len() as u32).to_le_bytes());
                new.extend_from_slice(&index);
            }
            new
        };
        cache.change_packs(changed);
    }
}

/// The content of an image's highest layer, without times.
fn highest_layer(folder: &Path) -> Vec<tar::Entry> {
    let layout = Layout::from_folder(folder).unwrap();
    let image = layout.image().unwrap();
    let layer = image.manifest["layers"].as_array().unwrap().last().unwrap();
    let blob = layout.blob(layer["digest"].as_str().unwrap()).unwrap();
    let archive = fixtures::image::decompress(blob).unwrap();
    let diff_ids = image.config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(
        diff_ids.last().unwrap(),
        &fixtures::digest(&archive),
        "a diffID is not the layer's"
    );
    let mut entries = tar::read(&archive).unwrap();
    entries.iter_mut().for_each(|entry| entry.mtime = 0);
    entries
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The indexes of a pack: 32 bytes of a diffID, the length in four bytes, the index.
fn unpack(pack: &[u8]) -> Vec<([u8; 32], Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = &pack[5..];
    while let Some((diff_id, after)) = rest.split_first_chunk::<32>() {
        let (length, after) = after.split_first_chunk::<4>().unwrap();
        let (index, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        found.push((*diff_id, index.to_vec()));
        rest = after;
    }
    found
}

/// A cache in a folder, whose documents can be changed with all digests kept correct.
struct Cache(PathBuf);

impl Cache {
    fn from(&self) -> String {
        format!("--cache-from=type=local,src={}", text(&self.0))
    }

    fn to(&self) -> String {
        format!("--cache-to=type=local,dest={},mode=max", text(&self.0))
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        std::fs::read(self.0.join("blobs").join(digest.replace(':', "/"))).unwrap()
    }

    fn json(&self, digest: &str) -> Value {
        serde_json::from_slice(&self.blob(digest)).unwrap()
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = fixtures::digest(bytes);
        std::fs::write(self.0.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        digest
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.join("index.json")).unwrap()).unwrap()
    }

    /// Stores a manifest and tags it.
    fn tag(&self, tag: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = self.put(&bytes);
        let mut index = self.index();
        for entry in index["manifests"].as_array_mut().unwrap() {
            if entry["annotations"]["org.opencontainers.image.ref.name"] == tag {
                entry["digest"] = json!(digest);
                entry["size"] = json!(bytes.len());
            }
        }
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
        digest
    }

    fn tagged(&self, tag: &str) -> Value {
        let index = self.index();
        let entries = index["manifests"].as_array().unwrap();
        let entry = entries
            .iter()
            .find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        self.json(entry.unwrap()["digest"].as_str().unwrap())
    }

    fn config(&self) -> Value {
        self.json(self.tagged("latest")["config"]["digest"].as_str().unwrap())
    }

    fn change_config(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.config();
        change(&mut config);
        let bytes = config.to_string().into_bytes();
        let mut manifest = self.tagged("latest");
        manifest["config"]["digest"] = json!(self.put(&bytes));
        manifest["config"]["size"] = json!(bytes.len());
        self.tag("latest", &manifest);
    }

    fn packs(&self) -> Vec<Vec<u8>> {
        let Some(artifact) = self.config()["kiln"]["beside"].as_str().map(str::to_owned) else {
            return Vec::new();
        };
        let artifact = self.json(&artifact);
        let entries = artifact["layers"].as_array().unwrap().iter();
        let packs = entries.filter(|entry| is_pack(entry));
        packs.map(|entry| self.blob(entry["digest"].as_str().unwrap())).collect()
    }

    /// Changes the packs of the artifact and tags the new artifact. A writer of the cache would
    /// make the cache name it too.
    fn change_packs(&self, change: impl Fn(&[u8]) -> Vec<u8>) {
        let mut artifact = self.tagged("latest.kiln");
        for entry in artifact["layers"].as_array_mut().unwrap() {
            if is_pack(entry) {
                let pack = change(&self.blob(entry["digest"].as_str().unwrap()));
                entry["digest"] = json!(self.put(&pack));
                entry["size"] = json!(pack.len());
            }
        }
        self.tag("latest.kiln", &artifact);
    }

    fn name_what_is_tagged(&self) {
        let artifact = self.tag("latest.kiln", &self.tagged("latest.kiln"));
        self.change_config(|config| config["kiln"]["beside"] = json!(artifact));
    }
}

fn is_pack(entry: &Value) -> bool {
    entry["annotations"]["vnd.kiln.name"].as_str().is_some_and(|name| name.starts_with("indexes/"))
}

/// A false statement about the base.
struct Lie {
    name: &'static str,
    dockerfile: &'static str,
    change: fn(&mut Vec<Entry>),
    fate: Fate,
}

/// The effect of a lie on a build that names the cache.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The layer has to be read, which reveals the lie: the build is repeated without the cache.
    Found,
    /// No layer index can have this content.
    Refused,
    /// Nothing has to be read, so the cache is believed.
    Believed,
}

const COPY_OUT: &str = "FROM BASE AS base\nFROM scratch\nCOPY --from=base /d/good /x\n";
const COPY_IN: &str = "FROM BASE\nCOPY a.txt /d/\n";
const COPY_ALL: &str = "FROM BASE AS base\nFROM scratch\nCOPY --from=base /d /x\n";
const WORKDIR: &str = "FROM BASE\nWORKDIR /d/new\n";

fn of<'e>(entries: &'e mut [Entry], path: &str) -> &'e mut Entry {
    entries.iter_mut().find(|entry| *entry.path == *path.as_bytes()).unwrap()
}

fn without(entries: &mut Vec<Entry>, start: &str) {
    entries.retain(|entry| !entry.path.starts_with(start.as_bytes()));
}

const LIES: [Lie; 12] = [
    Lie {
        name: "mode, owner and capability",
        dockerfile: COPY_OUT,
        change: |entries| {
            let good = of(entries, "d/good");
            (good.mode, good.uid, good.gid) = (0o6755, 7, 8);
            good.xattrs.push((Box::from(*b"security.capability"), Box::from([1, 0, 0, 2])));
        },
        fate: Fate::Found,
    },
    Lie {
        name: "a link to another file",
        dockerfile: COPY_OUT,
        change: |entries| {
            of(entries, "d/good").kind = EntryKind::Symlink { target: Box::from(*b"evil") };
        },
        fate: Fate::Found,
    },
    Lie {
        name: "another name of another file",
        dockerfile: COPY_OUT,
        change: |entries| {
            of(entries, "d/good").kind = EntryKind::HardLink { target: Box::from(*b"d/evil") };
        },
        fate: Fate::Found,
    },
    Lie {
        name: "another size of the file before it",
        dockerfile: COPY_ALL,
        change: |entries| of(entries, "d/early").kind = EntryKind::File { size: 3 },
        fate: Fate::Found,
    },
    Lie {
        name: "an empty file",
        dockerfile: COPY_OUT,
        change: |entries| of(entries, "d/good").kind = EntryKind::File { size: 0 },
        fate: Fate::Found,
    },
    Lie {
        name: "a block device",
        dockerfile: COPY_OUT,
        change: |entries| {
            of(entries, "d/good").kind = EntryKind::BlockDevice { major: 8, minor: 0 };
        },
        fate: Fate::Believed,
    },
    Lie {
        name: "a folder that is a link to another",
        dockerfile: COPY_IN,
        change: |entries| {
            without(entries, "d/");
            of(entries, "d").kind = EntryKind::Symlink { target: Box::from(*b"/etc") };
        },
        fate: Fate::Believed,
    },
    Lie {
        name: "a file that is gone",
        dockerfile: COPY_OUT,
        change: |entries| without(entries, "d/good"),
        fate: Fate::Found,
    },
    Lie {
        name: "mode and owner of a folder",
        dockerfile: WORKDIR,
        change: |entries| {
            let folder = of(entries, "d");
            (folder.mode, folder.uid) = (0o7777, 1000);
        },
        fate: Fate::Believed,
    },
    Lie {
        name: "a folder that is there already",
        dockerfile: WORKDIR,
        change: |entries| {
            let new = Entry { path: Box::from(*b"d/new"), ..of(entries, "d").clone() };
            entries.push(new);
        },
        fate: Fate::Believed,
    },
    Lie {
        name: "a file in a file",
        dockerfile: COPY_OUT,
        change: |entries| {
            let below = Entry { path: Box::from(*b"d/good/x"), ..of(entries, "d/good").clone() };
            entries.push(below);
        },
        fate: Fate::Refused,
    },
    Lie {
        name: "more than the layer's blob can hold",
        dockerfile: COPY_OUT,
        change: |entries| of(entries, "d/good").kind = EntryKind::File { size: 1 << 40 },
        fate: Fate::Refused,
    },
];

#[test]
fn what_a_cache_says_of_a_base_stays_with_those_who_name_the_cache() {
    let Some(world) = World::new("lying_indexes") else { return };
    let kiln = kiln();
    for (number, Lie { name, dockerfile, change, fate }) in LIES.iter().enumerate() {
        kiln.empty_root();
        let honest = world.build(&kiln, dockerfile, &[]).1;
        let cache = world.cache(&format!("lying-{number}"));
        world.lie(&cache, *change);
        cache.name_what_is_tagged();

        // The same build with the cache, and again with the resulting root.
        kiln.empty_root();
        let (run, told) = world.build(&kiln, dockerfile, &[&cache.from()]);
        let run = run.expect_ok();
        assert_eq!(told == honest, *fate != Fate::Believed, "{name}: {}", run.stderr);
        let word = match fate {
            Fate::Found => "is left aside",
            Fate::Refused => "no index of this cache is used",
            Fate::Believed => "",
        };
        assert!(run.stderr.contains(word), "{name}: {}", run.stderr);
        if *fate == Fate::Believed {
            assert!(!run.stderr.contains("WARN"), "{name}: {}", run.stderr);
            let (again, same) = world.build(&kiln, dockerfile, &[&cache.from()]);
            assert!(again.count("CACHED") > 0 && same == told, "{name}: {}", again.stderr);
        }
        // The next build on this root, without the cache.
        let (run, next) = world.build(&kiln, dockerfile, &[]);
        run.expect_ok();
        assert_eq!(next, honest, "{name}: it is remembered");
        // The build has read the layer, so the cache is no longer believed.
        let (run, next) = world.build(&kiln, dockerfile, &[&cache.from()]);
        run.expect_ok();
        assert_eq!(next, honest, "{name}: it is believed although the layer was read");

        // A build writes another cache, which a build on an empty root uses alone.
        kiln.empty_root();
        let other = Cache(world.folder.path().join(format!("other-{number}")));
        let (run, _) = world.build(&kiln, dockerfile, &[&cache.from(), &other.to()]);
        run.expect_ok();
        kiln.empty_root();
        let (run, next) = world.build(&kiln, dockerfile, &[&other.from()]);
        run.expect_ok();
        assert_eq!(next, honest, "{name}: another cache has it");
        if let Some(copied) = world.index(&other) {
            let own = world.index(&Cache(world.honest())).unwrap();
            assert_eq!(copied.digest(), own.digest(), "{name}: it was copied beside another cache");
        }

        // With `--verify-indexes`, no cache is believed.
        kiln.empty_root();
        let (run, next) = world.build(&kiln, dockerfile, &[&cache.from(), "--verify-indexes"]);
        assert!(!run.expect_ok().stderr.contains("left aside"), "{name}");
        assert_eq!(next, honest, "{name}: it is believed although nothing is to be");
    }
}

#[test]
fn only_what_the_cache_names_lies_beside_it() {
    let Some(world) = World::new("unnamed_artifact") else { return };
    let kiln = kiln();
    let honest = world.build(&kiln, COPY_IN, &[]).1;
    let change: fn(&mut Vec<Entry>) = |entries| {
        without(entries, "d/");
        of(entries, "d").kind = EntryKind::Symlink { target: Box::from(*b"/etc") };
    };
    // The writer of the tag beside the cache may be unable to write the cache itself.
    let cache = world.cache("other-tag");
    world.lie(&cache, change);
    kiln.empty_root();
    let (run, next) = world.build(&kiln, COPY_IN, &[&cache.from()]);
    assert!(!run.expect_ok().stderr.contains("WARN"));
    assert_eq!(next, honest);

    // An old cache does not name its artifact, and gets a new one with the next export.
    let cache = world.cache("old");
    world.lie(&cache, change);
    cache.change_config(|config| drop(config["kiln"].as_object_mut().unwrap().remove("beside")));
    kiln.empty_root();
    let (run, next) = world.build(&kiln, COPY_IN, &[&cache.from(), &cache.to()]);
    let run = run.expect_ok();
    assert!(run.stderr.contains("the cache does not name it"), "{}", run.stderr);
    assert_eq!(next, honest);
    kiln.empty_root();
    let (run, next) = world.build(&kiln, WORKDIR, &[&cache.from()]);
    assert!(!run.expect_ok().stderr.contains("does not name it"));
    let own = world.index(&Cache(world.honest())).unwrap();
    assert_eq!(world.index(&cache).unwrap().digest(), own.digest());
    kiln.empty_root();
    assert_eq!(world.build(&kiln, WORKDIR, &[]).1, next);
}

#[test]
fn the_environment_asks_for_layers_to_be_read() {
    let Some(world) = World::new("verify_indexes") else { return };
    let dockerfile = COPY_IN.replace("BASE", &world.base);
    let context = context_of(&[("Dockerfile", &dockerfile), ("a.txt", "text")]);
    let from = Cache(world.honest()).from();
    let kiln = kiln();
    let layers = kiln.root().join("v1/layers").join(&world.diff_id["sha256:".len()..]);
    for (value, is_read) in [("", false), ("0", false), ("1", true)] {
        kiln.empty_root();
        let args = ["build", "--progress=plain", "--output=type=cacheonly", &from];
        let mut command = kiln.command(args.into_iter().chain([text(context.path()).as_str()]));
        command.env("KILN_VERIFY_INDEXES", value);
        fixtures::kiln::finish(command, b"").expect_ok();
        assert_eq!(layers.exists(), is_read, "{value:?}");
    }
    let mut command = kiln.command(["build", &text(context.path())]);
    command.env("KILN_VERIFY_INDEXES", "please");
    assert!(fixtures::kiln::finish(command, b"").stderr.contains("neither 1 nor 0"));
}

#[test]
fn a_false_diff_id_of_a_cache_is_in_no_image() {
    let Some(world) = World::new("false_diff_ids") else { return };
    let seed = "FROM BASE\nCOPY a.txt /seed/\n";
    let kiln = kiln();
    let honest = world.build(&kiln, seed, &[]).1;
    let wrong = format!("sha256:{}", "ab".repeat(32));
    // For the layer that the step made; the diffID of the base is in the base's own config.
    let lie = |cache: &Cache, begins: bool| {
        let mut manifest = cache.tagged("latest");
        let layers = manifest["layers"].as_array_mut().unwrap();
        let mut at = Vec::new();
        for (number, layer) in layers.iter_mut().enumerate() {
            let diff_id = &mut layer["annotations"]["containerd.io/uncompressed"];
            if diff_id.as_str() != Some(&world.diff_id) {
                *diff_id = json!(wrong);
                at.push(number);
            }
        }
        assert_eq!(at.len(), 1);
        cache.tag("latest", &manifest);
        if begins {
            cache.change_config(|config| config["kiln"]["layers"][at[0]] = json!("ab".repeat(8)));
        }
    };
    // The two documents of the cache contradict each other.
    let cache = world.cache("two-diff-ids");
    lie(&cache, false);
    kiln.empty_root();
    let (run, next) = world.build(&kiln, seed, &[&cache.from()]);
    let run = run.expect_ok();
    assert!(run.stderr.contains("two diffIDs of layer"), "{}", run.stderr);
    assert_eq!(next, honest);

    // They agree, but the layer's bytes do not match: `highest_layer` compares them with the
    // config.
    let cache = world.cache("false-diff-ids");
    lie(&cache, true);
    kiln.empty_root();
    let (run, next) = world.build(&kiln, seed, &[&cache.from()]);
    run.expect_ok();
    assert_eq!(next, honest);
    // The root remembers it.
    let (run, next) = world.build(&kiln, seed, &[&cache.from()]);
    let run = run.expect_ok();
    assert!(run.stderr.contains("unpacks to another layer"), "{}", run.stderr);
    assert_eq!(next, honest);
}
