//! The main use of kiln, three times on a machine that keeps no state: cold, nothing changed, one
//! source file changed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use fixtures::docker_registry::{PASSWORD, USER};
use fixtures::{Access, DockerRegistry, Kiln, base_image, context, tar};
use serde_json::Value;

use crate::table::{Table, bytes};
use crate::{packages, tools};

pub fn run(_: &[String]) -> Result<()> {
    packages::need(&[packages::REGISTRY, packages::BUSYBOX])?;
    println!("building kiln (profile `demo`)");
    let kiln = Kiln::new(tools::demo_binary()?);
    let registry = DockerRegistry::start(Access::Password)?;
    let host = registry.host();
    println!("a registry with a password: {host}\n");
    println!("$ kiln login -u {USER} --password-stdin {host}");
    kiln.login(host, USER, PASSWORD);
    let place = tempfile::tempdir().context("a temporary folder")?;
    push_base(&kiln, host, place.path())?;

    let shop = place.path().join("shop");
    context::copy(&fixtures::source_tree().join("examples/shop"), &shop)?;
    let mut table = Table::new(&["", "seconds", "ran", "cached", "requests", "down", "up"]);
    for (number, name) in
        ["cold", "nothing changed", "one source file changed"].into_iter().enumerate()
    {
        kiln.empty_root();
        if number == 2 {
            sell_a_lamp(&shop)?;
        }
        if number == 0 {
            println!("$ kiln build --build-arg REGISTRY={host} \\");
            println!("    --cache-from type=registry,ref={host}/shop:cache \\");
            println!("    --cache-to type=registry,ref={host}/shop:cache,mode=max \\");
            println!("    -t {host}/shop:latest --push examples/shop");
        }
        let row = job(&kiln, host, &shop, place.path())?;
        table.row([vec![name.to_owned()], row].concat());
    }
    println!("\n12 steps in 4 stages, an empty root each time:\n");
    table.print();
    Ok(())
}

/// The base image, made by kiln itself from Debian's busybox.
fn push_base(kiln: &Kiln, host: &str, place: &Path) -> Result<()> {
    const CONTEXT: &str = "the base's context";
    let context = place.join("base");
    std::fs::create_dir(&context).context(CONTEXT)?;
    std::fs::write(context.join("rootfs.tar"), tar::write(&base_image::busybox_files()?))
        .context(CONTEXT)?;
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nADD rootfs.tar /\nCMD [\"sh\"]\n")
        .context(CONTEXT)?;
    let reference = format!("{host}/library/busybox:latest");
    println!("$ kiln build -t {reference} --push base/");
    let run = kiln.run([
        "build",
        "--progress",
        "plain",
        "-t",
        &reference,
        "--push",
        &context.display().to_string(),
    ]);
    if run.ok() { Ok(()) } else { Err(anyhow!("the base image was not built:\n{}", run.stderr)) }
}

/// Builds and pushes an image, and returns the cost.
fn job(kiln: &Kiln, host: &str, shop: &Path, place: &Path) -> Result<Vec<String>> {
    let metadata = place.join("metadata.json");
    let cache = format!("type=registry,ref={host}/shop:cache");
    let args = [
        "build".to_owned(),
        "--progress=plain".to_owned(),
        format!("--build-arg=REGISTRY={host}"),
        format!("--cache-from={cache}"),
        format!("--cache-to={cache},mode=max"),
        format!("--tag={host}/shop:latest"),
        "--push".to_owned(),
        format!("--metadata-file={}", metadata.display()),
        shop.display().to_string(),
    ];
    let run = kiln.run(&args);
    if !run.ok() {
        bail!("the build failed:\n{}", run.stderr);
    }
    let stats = stats(&metadata)?;
    let count = |key: &str| stats[key].as_u64().unwrap_or(0);
    Ok(vec![
        seconds(run.time),
        count("ran").to_string(),
        count("cached").to_string(),
        count("requests").to_string(),
        bytes(count("bytes_down")),
        bytes(count("bytes_up")),
    ])
}

/// The build statistics in the file of `--metadata-file`.
pub fn stats(metadata: &Path) -> Result<Value> {
    let text = std::fs::read(metadata).context("the metadata file")?;
    let metadata: Value = serde_json::from_slice(&text).context("the metadata file")?;
    match &metadata["kiln.stats"] {
        Value::Object(stats) => Ok(Value::Object(stats.clone())),
        _ => Err(anyhow!("the metadata file has no `kiln.stats`")),
    }
}

/// Changes one source file: adds a product to the catalogue.
fn sell_a_lamp(shop: &Path) -> Result<()> {
    let file = shop.join("catalogue/garden.csv");
    let doing = || format!("`{}`", file.display());
    let text = std::fs::read_to_string(&file).with_context(doing)?;
    std::fs::write(&file, format!("{text}lamp,Garden lamp,1999,21\n")).with_context(doing)
}

/// A duration in seconds, for display.
pub fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}
