//! Caches that builds share or that failed builds leave, their explanations, and their maintenance.

use std::path::Path;

use fixtures::http::Request;
use fixtures::{Access, DockerRegistry, Kiln};
use serde_json::Value;

use crate::{context_of, kiln, registry, root_or_skip, text};

const DOCKERFILE: &str = "ARG REGISTRY\n\
    FROM ${REGISTRY}/library/busybox AS tools\n\
    ARG V=1\n\
    RUN echo tools $V > /out\n\
    FROM ${REGISTRY}/library/busybox\n\
    COPY src /src\n\
    RUN cat /src/* > /all\n\
    COPY --from=tools /out /out\n";

struct Shop {
    kiln: Kiln,
    registry: DockerRegistry,
    context: tempfile::TempDir,
}

impl Shop {
    fn new(test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let registry = registry(test, Access::Open)?;
        let files = [("Dockerfile", DOCKERFILE), ("src/a", "a\n"), ("src/b", "b\n")];
        Some(Self { kiln: kiln(), registry, context: context_of(&files) })
    }

    fn cache(&self) -> String {
        format!("{}/app:cache", self.registry.host())
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let cache = self.cache();
        let mut args = vec![
            "build".to_owned(),
            "--progress=plain".to_owned(),
            format!("--build-arg=REGISTRY={}", self.registry.host()),
            format!("--cache-from={cache}"),
            format!("--cache-to=type=registry,ref={cache},mode=max"),
            "--output=type=cacheonly".to_owned(),
        ];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.push(text(self.context.path()));
        args
    }

    /// Builds on an empty root.
    fn build(&self, more: &[&str]) -> fixtures::Run {
        self.kiln.empty_root();
        self.kiln.run(self.args(more))
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.context.path().join(name), content).unwrap();
    }

    fn get(&self, path: &str) -> Value {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let request = Request { method: "GET", path, media_type, ..Request::default() };
        serde_json::from_slice(&self.registry.send(&request).unwrap().body).unwrap()
    }
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn eight_builds_that_write_at_once_lose_nothing() {
    let Some(shop) = Shop::new("eight_builds") else { return };
    let kilns: Vec<Kiln> = (0..8).map(|_| kiln()).collect();
    std::thread::scope(|scope| {
        for (number, kiln) in kilns.iter().enumerate() {
            let argument = format!("--build-arg=V={number}");
            let args = shop.args(&[&argument]);
            scope.spawn(move || kiln.run(args).expect_ok());
        }
    });
    for number in 0..8 {
        let run = shop.build(&[&format!("--build-arg=V={number}"), "--require-cached=all"]);
        run.expect_ok();
    }
}

#[test]
fn a_warm_build_of_several_stages_sends_nothing() {
    let Some(shop) = Shop::new("warm_sends_nothing") else { return };
    shop.build(&[]).expect_ok();
    let asked = shop.registry.log().len();
    shop.build(&["--require-cached=all"]).expect_ok();
    let log = shop.registry.log().split_off(asked);
    assert!(log.iter().all(|line| matches!(line.method.as_str(), "GET" | "HEAD")), "{log:#?}");
    // The manifests and configs of the base and the cache, and the version check.
    assert!(log.len() <= 12, "{log:#?}");
}

#[test]
fn what_a_failed_build_made_is_not_made_again() {
    let Some(shop) = Shop::new("failed_build") else { return };
    shop.write("Dockerfile", &format!("{DOCKERFILE}RUN exit 3\n"));
    assert!(shop.build(&["--cache-to=type=inline"]).refused());
    shop.write("Dockerfile", DOCKERFILE);
    shop.build(&["--require-cached=all"]).expect_ok();

    // With `on-failure=false`, a failed build writes no cache.
    let other = format!("type=registry,ref={}/app:other,on-failure=false", shop.registry.host());
    let only = format!("--cache-to={other}");
    shop.write("Dockerfile", &format!("{DOCKERFILE}RUN exit 4\n"));
    let mut args = shop.args(&[&only]);
    args.retain(|arg| !arg.contains("app:cache"));
    shop.kiln.empty_root();
    assert!(shop.kiln.run(args).refused());
    let path = "/v2/app/manifests/other";
    let request = Request { method: "GET", path, ..Request::default() };
    assert_eq!(shop.registry.send(&request).unwrap().status, 404);
}

#[test]
fn a_miss_is_explained() {
    let Some(shop) = Shop::new("explained") else { return };
    for name in ["src/a", "src/b"] {
        chmod(&shop.context.path().join(name), 0o644);
    }
    shop.build(&[]).expect_ok();
    shop.write("src/a", "longer\n");
    chmod(&shop.context.path().join("src/b"), 0o600);
    let dry = shop.kiln.run(["cache", "explain"].map(String::from).into_iter().chain(
        shop.args(&["--build-arg=V=2"]).into_iter().skip(1).filter(|arg| !arg.contains("cache-to")),
    ));
    let dry = dry.expect_ok().stdout;
    let run = shop.build(&["--build-arg=V=2", "--explain"]).expect_ok().stderr;
    for (text, verb) in [(&dry, "would run"), (&run, "ran")] {
        assert!(text.contains(&format!("Why 4 steps {verb}:\n")), "{text}");
        for line in [
            "    environment variable V: 1 → 2\n",
            "    file /src/a: size: 2 bytes → 7 bytes\n",
            "    file /src/b: mode: 0644 → 0600\n",
            "    stands on [stage-1 2/4] COPY src /src, which is not cached\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
    let refused = shop.build(&["--build-arg=V=3", "--require-cached=tools"]);
    assert!(refused.refused(), "{}", refused.stderr);
    assert!(refused.stderr.contains("why: environment variable V: 2 → 3"), "{}", refused.stderr);
    // `--explain` must work for a failed build too.
    let file = shop.context.path().join("Dockerfile");
    std::fs::write(&file, DOCKERFILE.replace("echo tools", "false")).unwrap();
    let failed = shop.build(&["--build-arg=V=2", "--explain"]);
    assert!(failed.refused(), "{}", failed.stderr);
    let said = failed.stderr.split("Why ").nth(1).unwrap_or_else(|| panic!("{}", failed.stderr));
    assert!(said.contains("RUN false") && said.contains("command: "), "{said}");
    assert!(said.contains("ERROR: failed to build"), "{said}");
    std::fs::write(&file, DOCKERFILE).unwrap();
    // Stages that are not named may run.
    shop.write("src/a", "other\n");
    shop.build(&["--build-arg=V=2", "--require-cached=tools"]).expect_ok();
}

#[test]
fn keys_can_be_blind_to_the_umask() {
    let Some(shop) = Shop::new("normalized") else { return };
    let set = |modes: [u32; 3]| {
        for (name, mode) in ["src", "src/a", "src/b"].iter().zip(modes) {
            chmod(&shop.context.path().join(name), mode);
        }
    };
    set([0o755, 0o644, 0o644]);
    shop.build(&["--cache-normalize=modes"]).expect_ok();
    set([0o775, 0o664, 0o600]);
    shop.build(&["--cache-normalize=modes", "--require-cached=all"]).expect_ok();
    assert!(shop.build(&["--require-cached=all"]).refused());
    // The files have the normalized modes too, so that a hit is never wrong.
    let out = shop.context.path().join("../normalized-out");
    let folder = tempfile::tempdir_in(out.parent().unwrap()).unwrap();
    let output = format!("--output=type=local,dest={}", text(folder.path()));
    let mut args = shop.args(&["--cache-normalize=modes", "--no-cache", &output]);
    args.retain(|arg| arg != "--output=type=cacheonly");
    shop.kiln.run(args).expect_ok();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| {
        let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!((mode("src"), mode("src/a"), mode("src/b")), (0o755, 0o644, 0o644));
}

#[test]
fn caches_are_looked_after() {
    let Some(shop) = Shop::new("upkeep") else { return };
    shop.build(&[]).expect_ok();
    let cache = shop.cache();
    let kiln = |args: &[&str]| shop.kiln.run(args.iter().copied());
    let listed = kiln(&["cache", "ls", &cache]).expect_ok().stdout;
    assert!(listed.contains("[tools 2/2] RUN echo tools 1 > /out"), "{listed}");
    let inspected = kiln(&["cache", "inspect", "--json", &cache]).expect_ok().stdout;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert!(inspected["Writer"].as_str().unwrap().starts_with("kiln "), "{inspected}");
    assert!(kiln(&["cache", "verify", &cache]).expect_ok().stdout.contains("all are what"));

    let copy = format!("{}/copy:cache", shop.registry.host());
    let asked = shop.registry.log().len();
    kiln(&["cache", "copy", &cache, &copy]).expect_ok();
    let log = shop.registry.log().split_off(asked);
    assert!(log.iter().all(|line| line.method != "PATCH"), "layers are mounted: {log:#?}");
    kiln(&["cache", "verify", &copy]).expect_ok();
    let folder = shop.kiln.home().join("folder");
    let local = format!("type=local,src={}", text(&folder));
    kiln(&["cache", "copy", &cache, &format!("type=local,dest={}", text(&folder))]).expect_ok();
    kiln(&["cache", "verify", &local]).expect_ok();
    let blobs = || std::fs::read_dir(folder.join("blobs/sha256")).unwrap().count();
    let before = blobs();
    assert!(kiln(&["cache", "prune", &local]).refused(), "nothing says what may go");
    kiln(&["cache", "prune", "--keep", "3", &local]).expect_ok();
    kiln(&["cache", "verify", &local]).expect_ok();
    assert!(blobs() < before);
    kiln(&["cache", "prune", "--older-than", "1d", &cache]).expect_ok();
    shop.build(&["--require-cached=all"]).expect_ok();

    // A corrupted blob.
    let manifest = shop.get("/v2/app/manifests/cache");
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let file = shop.registry.blob_file(&digest);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let verified = kiln(&["cache", "verify", &cache]);
    assert!(verified.refused() && verified.stdout.contains(&digest), "{}", verified.stdout);
}

#[test]
fn hostile_caches_cost_a_warning_each() {
    let Some(shop) = Shop::new("hostile_caches") else { return };
    shop.build(&[]).expect_ok();
    let manifest = shop.get("/v2/app/manifests/cache");
    let config_digest = manifest["config"]["digest"].as_str().unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(shop.registry.blob_file(config_digest)).unwrap())
            .unwrap();
    // Each is a cache under its own tag: the config, and the manifest's description of it.
    let put = |name: &str, config: &[u8], change: &dyn Fn(&mut Value)| {
        let digest = fixtures::digest(config);
        let mut changed = manifest.clone();
        changed["config"]["digest"] = digest.into();
        changed["config"]["size"] = config.len().into();
        change(&mut changed);
        let body = serde_json::to_vec(&changed).unwrap();
        let image = fixtures::base_image::RawImage {
            layers: Vec::new(),
            config: config.to_vec(),
            manifest: body,
            media_type: "application/vnd.oci.image.manifest.v1+json",
            diff_ids: Vec::new(),
        };
        shop.registry.put("app", name, &image).unwrap();
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config);
        serde_json::to_vec(&config).unwrap()
    };
    let whole = changed(&|_| ());
    put("cut", &whole[..whole.len() / 2], &|_| ());
    put(
        "link",
        &changed(&|config| config["records"][0]["inputs"] = serde_json::json!([[{"link": 99999}]])),
        &|_| (),
    );
    put(
        "loop",
        &changed(&|config| config["records"][0]["inputs"] = serde_json::json!([[{"link": 0}]])),
        &|_| (),
    );
    put("size", &whole, &|manifest| manifest["config"]["size"] = 7.into());
    put("large", &whole, &|manifest| manifest["config"]["size"] = (300_u64 << 20).into());
    put("image", &whole, &|manifest| {
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    });
    put("artifact", &whole, &|manifest| {
        manifest["config"]["mediaType"] = "application/vnd.example.thing".into();
    });
    let mut args = shop.args(&[]);
    args.retain(|arg| !arg.contains("app:cache"));
    let names = ["cut", "link", "loop", "size", "large", "image", "artifact"];
    let tags = names.map(|name| format!("--cache-from={}/app:{name}", shop.registry.host()));
    args.extend(tags.iter().cloned());
    shop.kiln.empty_root();
    let run = shop.kiln.run(args.clone()).expect_ok();
    for tag in &tags {
        let reference = tag.trim_start_matches("--cache-from=");
        let warned =
            run.stderr.lines().filter(|line| line.starts_with(" - ") && line.contains(reference));
        assert_eq!(warned.count(), 1, "{reference}: {}", run.stderr);
    }

    // The layers do not unpack to the diffIDs of the cache: a step that needs one of them runs.
    put("lie", &whole, &|manifest| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            let other = fixtures::digest(layer.to_string().as_bytes());
            layer["annotations"]["containerd.io/uncompressed"] = other.into();
        }
    });
    let out = tempfile::tempdir().unwrap();
    let mut args = shop.args(&[&format!("--output=type=local,dest={}", text(out.path()))]);
    args.retain(|arg| !arg.contains("app:cache") && arg != "--output=type=cacheonly");
    args.push(format!("--cache-from={}/app:lie", shop.registry.host()));
    shop.kiln.empty_root();
    let run = shop.kiln.run(args).expect_ok();
    assert!(run.stderr.contains("WARN"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(out.path().join("all")).unwrap(), "a\nb\n");
    assert_eq!(std::fs::read_to_string(out.path().join("out")).unwrap(), "tools 1\n");
}
