//! `kiln cache`: the content of caches, and their upkeep.

use build::upkeep::{self, Copied, Holdings, PruneRule, Pruned, Verified};
use build::{BackendSettings, CacheTarget, Explained, Session};
use runtime::WantedIsolation;
use serde_json::json;

use super::build::{prepare, read};
use super::failure::report;
use super::presentation::DisplayedBuild;
use super::{ago, json_lines, now, seconds};
use crate::args::compound::OptionError;
use crate::args::compound::bucket::OptionContext;
use crate::args::compound::cache::{cache_from, cache_to};
use crate::args::{BuildArgs, CacheCommand, CacheRef, CopyArgs, Engine, PruneCacheArgs};
use crate::render::{self, Report, table};
use crate::settings::{Environment, Settings};
use crate::{human, machine, terminal, threads};

const DAY: i64 = 86_400;

/// Runs a command of `kiln cache`.
///
/// # Errors
/// If a flag is wrong, there is no such cache, or it is damaged.
pub fn run(
    command: &CacheCommand,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    match command {
        CacheCommand::Ls(args) => {
            let cache = one(args, environment)?;
            let held = finish(environment, settings, async |session| {
                upkeep::inspect(&session, &cache).await
            })?;
            terminal::print(&listed(&held, args.json, now()))
        }
        CacheCommand::Inspect(args) => {
            let cache = one(args, environment)?;
            let held = finish(environment, settings, async |session| {
                upkeep::inspect(&session, &cache).await
            })?;
            terminal::print(&inspected(&held, args.json, now()))
        }
        CacheCommand::Verify(args) => {
            let cache = one(args, environment)?;
            let verified = finish(environment, settings, async |session| {
                upkeep::verify(&session, &cache).await
            })?;
            terminal::print(&checked(&verified, args.json))?;
            match verified.faults.is_empty() {
                true => Ok(()),
                false => Err(Report::default()),
            }
        }
        CacheCommand::Prune(args) => prune(args, environment, settings),
        CacheCommand::Copy(args) => copy(args, environment, settings),
        CacheCommand::Explain(args) => explain(args, environment, settings),
    }
}

/// Reads the argument, which names one cache.
fn one(args: &CacheRef, environment: &Environment) -> Result<BackendSettings, Report> {
    let directory = directory()?;
    let around = OptionContext { directory: &directory, environment };
    // The error has the argument's name, since the value can hold keys and tokens.
    let named = |error: OptionError| error.within("CACHE");
    let mut caches = cache_from(&args.cache, around).map_err(named)?;
    match (caches.pop(), caches.is_empty()) {
        (Some(cache), true) => Ok(cache.backend),
        _ => Err(named(OptionError::Unusable("it names several caches; give one".into())).into()),
    }
}

fn directory() -> Result<std::path::PathBuf, Report> {
    std::env::current_dir()
        .map_err(|error| format!("finding the working directory: {error}").into())
}

fn prune(
    args: &PruneCacheArgs,
    environment: &Environment,
    settings: &Settings,
) -> Result<(), Report> {
    let PruneCacheArgs { cache, older_than, max_size, keep } = args;
    if older_than.is_none() && max_size.is_none() && keep.is_none() {
        let message = "nothing was removed: say what may go with `--older-than 30d`, `--max-size 10gb` or `--keep 100`";
        return Err(message.to_owned().into());
    }
    let from = one(cache, environment)?;
    let today = u32::try_from(now() / DAY).unwrap_or(0);
    let rule = PruneRule {
        before: older_than.map(|days| today.saturating_sub(days)),
        most_bytes: *max_size,
        keep: *keep,
    };
    let pruned =
        finish(environment, settings, async |session| upkeep::prune(&session, &from, rule).await)?;
    let in_registry = matches!(from, BackendSettings::Registry(_));
    terminal::print(&removed(pruned.as_ref(), in_registry, cache.json))
}

fn copy(args: &CopyArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let from = one(&args.cache, environment)?;
    let directory = directory()?;
    let around = OptionContext { directory: &directory, environment };
    let named = |error: OptionError| error.within("TO");
    let mut targets = cache_to(&args.to, around).map_err(named)?;
    let to: CacheTarget = match (targets.pop(), targets.is_empty()) {
        (Some(to), true) => to.target,
        _ => {
            return Err(
                named(OptionError::Unusable("it names several caches; give one".into())).into()
            );
        }
    };
    let copied =
        finish(environment, settings, async |session| upkeep::copy(&session, &from, &to).await)?;
    terminal::print(&copied_text(copied, &args.to, args.cache.json))
}

fn explain(args: &BuildArgs, environment: &Environment, settings: &Settings) -> Result<(), Report> {
    let standing = machine::rise(settings);
    let flags = read(args, Engine::Docker, environment, settings)?;
    let plan = prepare(flags, environment, settings)?;
    let shown = DisplayedBuild::begin(plan.presentation, &settings.style)?;
    let session = machine::session(settings, environment, &standing, WantedIsolation::None);
    let events = shown.events();
    let explained: Result<Vec<Explained>, Report> = match session {
        Ok(session) => threads::finish(build::explain(&session, &plan.request, &events))
            .and_then(|done| done.unwrap_or(Err(build::Error::Canceled)).map_err(report)),
        Err(error) => Err(error.into()),
    };
    shown.fail();
    terminal::print(&render::explained(&explained?, true))
}

/// Runs work on caches. The store is needed for layers that are copied by way of this machine.
fn finish<T>(
    environment: &Environment,
    settings: &Settings,
    work: impl AsyncFnOnce(Session) -> Result<T, build::Error>,
) -> Result<T, Report> {
    let standing = machine::rise(settings);
    let session = machine::session(settings, environment, &standing, WantedIsolation::None)?;
    threads::finish(work(session))?
        .ok_or_else(threads::canceled)?
        .map_err(|error| Report::from(oci::chain_text(&error)))
}

/// The records as a table, the last used first.
fn listed(held: &Holdings, is_json: bool, now: i64) -> String {
    if is_json {
        return json_lines(held.records.iter().map(|record| {
            json!({
                "Digest": record.digest, "Step": record.step, "CreatedAt": record.created,
                "UsedOn": record.used.and_then(date), "Layers": record.layers, "Size": record.bytes,
            })
        }));
    }
    let rows: Vec<[String; 5]> = held
        .records
        .iter()
        .map(|record| {
            let used = record.used.map(|day| i64::from(day) * DAY);
            [
                record.digest.hex()[..12].to_owned(),
                ago(record.created.as_deref().and_then(seconds), now),
                used.map_or("N/A".into(), |time| days_ago(time, now)),
                human::size(record.bytes),
                record.step.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(["RECORD", "CREATED", "LAST USED", "SIZE", "STEP"], &rows)
}

/// The days since a time, in words: `today`, `3 days ago`.
fn days_ago(time: i64, now: i64) -> String {
    match (now - time) / DAY {
        ..=0 => "today".into(),
        1 => "yesterday".into(),
        days => format!("{days} days ago"),
    }
}

fn date(day: u32) -> Option<String> {
    let time = jiff::Timestamp::from_second(i64::from(day) * DAY).ok()?;
    Some(time.to_string()[..10].to_owned())
}

/// The description of a whole cache.
fn inspected(held: &Holdings, is_json: bool, now: i64) -> String {
    let results = held.records.iter().filter(|record| record.layers > 0).count();
    let newest = held.records.iter().filter_map(|record| record.created.clone()).max();
    if is_json {
        let layers = held.layers.iter().map(|layer| {
            json!({
                "Digest": layer.digest, "DiffID": layer.diff_id, "Size": layer.size,
                "MediaType": layer.media_type, "CreatedAt": layer.created,
            })
        });
        let value = json!({
            "Cache": held.backend, "Digest": held.digest, "ManifestSize": held.manifest_size,
            "Writer": held.writer, "Records": held.records.len(), "Outputs": results,
            "NewestOutput": newest, "Size": held.bytes(), "Layers": layers.collect::<Vec<_>>(),
            "Beside": { "Entries": held.sidecar_entries, "Size": held.sidecar_bytes },
        });
        return format!("{value:#}\n");
    }
    let writer = held.writer.as_deref().unwrap_or("BuildKit, or another tool");
    let newest = ago(newest.as_deref().and_then(seconds), now);
    let mut text = format!(
        "Cache:\t\t{}\nDigest:\t\t{}\nWritten by:\t{}\nRecords:\t{}, {results} of them with an output, the newest {newest}\n\
         Layers:\t\t{}, {}\nBeside it:\t{} entries, {}\n\n",
        crate::progress::sanitize(&held.backend),
        held.digest,
        crate::progress::sanitize(writer),
        held.records.len(),
        held.layers.len(),
        human::size(held.bytes()),
        held.sidecar_entries,
        human::size(held.sidecar_bytes),
    );
    let rows: Vec<[String; 4]> = held
        .layers
        .iter()
        .map(|layer| {
            [
                layer.digest.hex()[..12].to_owned(),
                human::size(layer.size),
                ago(layer.created.as_deref().and_then(seconds), now),
                layer.media_type.clone(),
            ]
        })
        .collect();
    text.push_str(&table(["LAYER", "SIZE", "CREATED", "TYPE"], &rows));
    text
}

fn checked(verified: &Verified, is_json: bool) -> String {
    let faults = || verified.faults.iter();
    if is_json {
        let faults: Vec<_> = faults()
            .map(|fault| json!({ "Digest": fault.digest, "Fault": fault.what.to_string() }))
            .collect();
        let value = json!({ "Blobs": verified.blobs, "Size": verified.bytes, "Faults": faults });
        return format!("{value:#}\n");
    }
    let mut text = String::new();
    for fault in faults() {
        let what = crate::progress::sanitize(&fault.what.to_string());
        text.push_str(&format!("{}: {what}\n", fault.digest));
    }
    let (blobs, size) = (verified.blobs, human::size(verified.bytes));
    text.push_str(&match verified.faults.len() {
        0 => format!("{blobs} layers, {size}: all are what the cache says\n"),
        faults => format!("{faults} of {blobs} layers ({size}) are not what the cache says\n"),
    });
    text
}

fn removed(pruned: Option<&Pruned>, in_registry: bool, is_json: bool) -> String {
    let (records, layers, bytes) =
        pruned.map_or((0, 0, 0), |pruned| (pruned.records, pruned.layers, pruned.bytes));
    if is_json {
        return format!("{:#}\n", json!({ "Records": records, "Layers": layers, "Size": bytes }));
    }
    let size = human::size(bytes);
    match (records, in_registry && layers > 0) {
        (0, _) => "Nothing was removed.\n".into(),
        (_, true) => format!(
            "{records} records and {layers} layers ({size}) left the cache; the registry frees the space when it collects garbage\n"
        ),
        (_, false) => format!("{records} records and {layers} layers ({size}) were removed\n"),
    }
}

fn copied_text(copied: Copied, to: &str, is_json: bool) -> String {
    let Copied { records, layers, bytes } = copied;
    match is_json {
        true => format!("{:#}\n", json!({ "Records": records, "Layers": layers, "Size": bytes })),
        false => format!(
            "{layers} layers ({}) are in {} too, which has {records} records now\n",
            human::size(bytes),
            crate::progress::sanitize(to),
        ),
    }
}

#[cfg(test)]
mod tests {
    use build::upkeep::{BlobFault, Fault, HeldLayer, HeldRecord};
    use oci::Digest;

    use super::*;

    fn held() -> Holdings {
        let record = |step: Option<&str>, used, layers| HeldRecord {
            digest: Digest::of("record"),
            step: step.map(str::to_owned),
            created: (layers > 0).then(|| "1970-01-20T00:00:00Z".into()),
            used,
            layers,
            bytes: 1000,
        };
        Holdings {
            backend: "host/app:cache".into(),
            digest: Digest::of("manifest"),
            manifest_size: 10,
            writer: Some("kiln 1".into()),
            records: vec![
                record(Some("[1/2] COPY a\x1b[2J b"), Some(20), 1),
                record(None, None, 0),
            ],
            layers: vec![HeldLayer {
                digest: Digest::of("layer"),
                diff_id: Digest::of("diff"),
                size: 1_500_000,
                media_type: "application/x".into(),
                created: None,
            }],
            sidecar_entries: 2,
            sidecar_bytes: 300,
        }
    }

    #[test]
    fn records_are_a_table() {
        let now = 21 * DAY;
        let id = &Digest::of("record").hex()[..12];
        assert_eq!(
            listed(&held(), false, now),
            format!(
                "RECORD         CREATED      LAST USED   SIZE   STEP\n\
                 {id}   2 days ago   yesterday   1kB    [1/2] COPY a b\n\
                 {id}   N/A          N/A         1kB\n"
            )
        );
        let json = listed(&held(), true, now);
        assert!(json.lines().count() == 2 && json.contains("\"UsedOn\":\"1970-01-21\""), "{json}");
        let text = inspected(&held(), false, now);
        assert!(text.contains("Written by:\tkiln 1\n") && text.contains("1.5MB"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&inspected(&held(), true, now)).unwrap();
        assert_eq!((&json["Records"], &json["Outputs"]), (&2.into(), &1.into()));
    }

    #[test]
    fn ends_are_said_in_a_line() {
        let mut verified = Verified { blobs: 3, bytes: 2000, faults: Vec::new() };
        assert_eq!(checked(&verified, false), "3 layers, 2kB: all are what the cache says\n");
        verified.faults.push(Fault { digest: Digest::of("x"), what: BlobFault::NoPlace });
        let text = checked(&verified, false);
        assert!(
            text.ends_with(": no place has it\n1 of 3 layers (2kB) are not what the cache says\n"),
            "{text}"
        );
        assert_eq!(removed(None, true, false), "Nothing was removed.\n");
        let copied = Copied { records: 4, layers: 1, bytes: 5 };
        assert_eq!(
            copied_text(copied, "b", false),
            "1 layers (5B) are in b too, which has 4 records now\n"
        );
    }
}
