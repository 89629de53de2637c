use std::path::Path;

use layer::Place;
use oci::{Repository, media_type};
use solve::RecordId;
use store::{OpenOptions, Privileges};

use super::*;

fn open(root: &Path) -> LocalRecords {
    let store = Store::open(root, OpenOptions::new(Privileges::None)).unwrap();
    LocalRecords::open(&store).unwrap()
}

fn digest(text: impl AsRef<[u8]>) -> Digest {
    Digest::of(text)
}

fn place(path: &str) -> Place {
    Place::Registry { repository: Repository::new("localhost:5000", path), insecure: false }
}

/// A layer that a repository has.
fn layer(name: &str) -> Layer {
    Layer {
        diff_id: digest(name),
        blob: Some(Descriptor::of(media_type::OCI_LAYER, name.as_bytes())),
        created: Some(format!("time of {name}")),
        places: vec![place("a")],
    }
}

fn chain(names: &[&str]) -> Chain {
    names.iter().map(|name| layer(name)).collect()
}

fn root_record(name: &str) -> NewRecord<Chain> {
    NewRecord { digest: digest(name), inputs: Vec::new(), output: None }
}

fn link(number: i64, selector: Option<&str>) -> Link {
    let record = RecordId { source: 0, number };
    Link::Record { record, selector: selector.map(digest) }
}

fn diff_ids(found: &[FoundOutput<Chain>]) -> Vec<Vec<Digest>> {
    let layers = |found: &FoundOutput<Chain>| found.chain.layers();
    found.iter().map(|found| layers(found).iter().map(|layer| layer.diff_id).collect()).collect()
}

#[test]
fn what_is_saved_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    assert_eq!(records.root(digest("image")).unwrap(), None);
    let image = records.save(&root_record("image")).unwrap();
    assert_eq!(records.save(&root_record("image")).unwrap(), image);
    let copy = NewRecord {
        digest: digest("copy"),
        inputs: vec![
            vec![link(image, None)],
            vec![link(image, Some("/out")), Link::Content(digest("content"))],
        ],
        output: Some(chain(&["base", "copied"])),
    };
    let number = records.save(&copy).unwrap();

    // Another process, later.
    let records = open(folder.path());
    assert_eq!(records.root(digest("image")).unwrap(), Some(image));
    assert_eq!(records.linked(image, digest("copy"), 0, None).unwrap(), [number]);
    assert_eq!(records.linked(image, digest("copy"), 1, Some(digest("/out"))).unwrap(), [number]);
    for (digest, input, selector) in [
        (digest("copy"), 1, None),
        (digest("copy"), 0, Some(digest("/out"))),
        (digest("copy"), 2, None),
        (digest("other"), 0, None),
    ] {
        assert_eq!(records.linked(image, digest, input, selector).unwrap(), [0; 0]);
    }
    let content = records.root(digest("content")).unwrap().unwrap();
    assert_eq!(records.linked(content, digest("copy"), 1, None).unwrap(), [number]);
    assert_eq!(records.content_links(number, 1).unwrap(), [digest("content")]);
    let found = records.results(number).unwrap();
    assert_eq!(found[0].chain.layers(), chain(&["base", "copied"]).layers());
    assert_eq!((found[0].created.as_str(), &*found[0].source), ("time of copied", "local"));
}

#[test]
fn a_record_that_shares_a_link_of_each_input_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    let [a, b, c] = ["a", "b", "c"].map(|name| records.save(&root_record(name)).unwrap());
    let save = |links: Vec<Link>, output| {
        let record = NewRecord { digest: digest("run"), inputs: vec![links], output };
        records.save(&record).unwrap()
    };
    let first = save(vec![link(a, None)], Some(chain(&["one"])));
    assert_eq!(save(vec![link(b, None), link(a, None)], None), first);
    assert_eq!(save(vec![link(b, None)], Some(chain(&["two"]))), first);
    assert_ne!(save(vec![link(c, None)], None), first);
    let mut results = diff_ids(&records.results(first).unwrap());
    results.sort();
    let mut expected = vec![vec![digest("one")], vec![digest("two")]];
    expected.sort();
    assert_eq!(results, expected);
}

/// `fetch` makes something else each time, and `copy` reads it.
#[test]
fn who_reads_one_content_does_not_get_what_was_made_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    let fetch = records.save(&root_record("fetch")).unwrap();
    let copy = |content: &str, output: &str| {
        let links = vec![link(fetch, Some("/file")), Link::Content(digest(content))];
        let output = Some(chain(&[output]));
        let record = NewRecord { digest: digest("copy"), inputs: vec![links], output };
        records.save(&record).unwrap()
    };
    let monday = copy("monday", "monday's");
    let tuesday = copy("tuesday", "tuesday's");
    assert_ne!(monday, tuesday);
    assert_eq!(copy("monday", "monday's"), monday);
    assert_eq!(diff_ids(&records.results(monday).unwrap()), [[digest("monday's")]]);
    let by_key = records.linked(fetch, digest("copy"), 0, Some(digest("/file"))).unwrap();
    assert_eq!(by_key, [monday, tuesday]);
}

#[test]
fn two_processes_save_the_same_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let build = || {
        let records = open(folder.path());
        let mut below = records.save(&root_record("base")).unwrap();
        let mut made = chain(&["base"]);
        for number in 0..60 {
            made = made.with(layer(&format!("layer {number}")));
            let record = NewRecord {
                digest: digest(format!("step {number}")),
                inputs: vec![vec![link(below, None)]],
                output: Some(made.clone()),
            };
            below = records.save(&record).unwrap();
        }
        below
    };
    let tops = std::thread::scope(|scope| {
        let threads = [scope.spawn(build), scope.spawn(build), scope.spawn(build)];
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(tops, [tops[0]; 3]);
    let found = open(folder.path()).results(tops[0]).unwrap();
    assert_eq!((found.len(), found[0].chain.len()), (1, 61));
}

#[test]
fn a_result_whose_layers_were_forgotten_is_none_until_it_is_saved_again() {
    let folder = tempfile::tempdir().unwrap();
    let save = |records: &LocalRecords| {
        let output = Some(chain(&["bottom", "middle", "top"]));
        let record = NewRecord { digest: digest("run"), inputs: Vec::new(), output };
        records.save(&record).unwrap()
    };
    let number = save(&open(folder.path()));
    for spoil in [
        "DELETE FROM cache_chain WHERE below = x''",
        "UPDATE cache_chain SET layer = '{}' WHERE below = x''",
        "UPDATE cache_chain SET below = x'00'",
        "DELETE FROM cache_chain",
    ] {
        let records = open(folder.path());
        records.store.db().with("spoil", |connection| connection.execute(spoil, [])).unwrap();
        assert!(records.results(number).unwrap().is_empty(), "{spoil}");
        save(&records);
        // A chain ID says what is in the chain, so a wrong place in it is never believed.
        let found = open(folder.path()).results(number).unwrap();
        assert_eq!(found.len(), usize::from(!spoil.contains("x'00'")), "{spoil}");
        records
            .store
            .db()
            .with("empty", |connection| connection.execute("DELETE FROM cache_chain", []))
            .unwrap();
        save(&open(folder.path()));
    }
}

#[test]
fn places_that_are_learnt_later_are_kept_with_those_known_before() {
    let folder = tempfile::tempdir().unwrap();
    let save = |layer: Layer| {
        let output = Some(chain(&["base"]).with(layer));
        let record = NewRecord { digest: digest("run"), inputs: Vec::new(), output };
        open(folder.path()).save(&record).unwrap()
    };
    let top = |number| {
        let found = open(folder.path()).results(number).unwrap();
        found[0].chain.top().cloned().unwrap()
    };
    let number = save(layer("top"));
    save(Layer { places: vec![place("b"), place("a")], ..layer("top") });
    assert_eq!(top(number).places, [place("a"), place("b")]);
    // Made again, and not compressed: what others have is still the same.
    save(Layer { blob: None, places: Vec::new(), ..layer("top") });
    assert_eq!(top(number), Layer { places: vec![place("a"), place("b")], ..layer("top") });
    // Another blob is elsewhere, whose bytes nobody saw.
    let other = Descriptor::of(media_type::OCI_LAYER_ZSTD, b"smaller");
    save(Layer { blob: Some(other), places: vec![place("c")], ..layer("top") });
    assert_eq!(top(number), Layer { places: vec![place("a"), place("b")], ..layer("top") });
    // And one that was here.
    let store = open(folder.path()).store;
    let zstd = zstd::encode_all(&b"top"[..], 1).unwrap();
    let seen = Descriptor::of(media_type::OCI_LAYER_ZSTD, &zstd);
    store.put_blob(&zstd).unwrap();
    store.check_layer_blob(&seen, &digest("top")).unwrap();
    save(Layer { blob: Some(seen.clone()), places: vec![place("c")], ..layer("top") });
    assert_eq!((top(number).blob, top(number).places), (Some(seen), vec![place("c")]));
}

#[test]
fn a_result_that_is_nowhere_any_more_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    let made = Layer { blob: None, places: Vec::new(), ..layer("made here") };
    let record = NewRecord {
        digest: digest("run"),
        inputs: Vec::new(),
        output: Some(chain(&["base"]).with(made.clone())),
    };
    let number = records.save(&record).unwrap();
    assert!(records.results(number).unwrap().is_empty());
    std::fs::create_dir_all(records.store.layer_folder(&made.diff_id)).unwrap();
    assert_eq!(records.results(number).unwrap().len(), 1);
}

fn says(cache: &str, of: &str) -> Assumptions {
    let claim = layer::Claim::Index(digest(format!("index of {of}")));
    [layer::Assumption { cache: cache.into(), diff_id: digest(of), claim }].into_iter().collect()
}

/// A machine's records, for a build that names some caches.
fn naming(root: &Path, caches: &[&str]) -> LocalRecords {
    open(root).naming(caches.iter().map(|name| Arc::from(*name)))
}

#[test]
fn what_stands_on_the_word_of_a_cache_serves_those_who_name_it() {
    let folder = tempfile::tempdir().unwrap();
    let naming = |caches: &[&str]| naming(folder.path(), caches);
    let records = naming(&["x"]);
    let image = records.save(&root_record("image")).unwrap();
    let copy = |output: Chain| NewRecord {
        digest: digest("copy"),
        inputs: vec![vec![link(image, None)]],
        output: Some(output),
    };
    let assuming = chain(&["copied"]).assuming(&says("x", "base"));
    let number = records.save(&copy(assuming.clone())).unwrap();
    assert_eq!(records.save(&copy(assuming)).unwrap(), number);

    for (caches, is_found) in
        [(&["x"][..], true), (&["y", "x"], true), (&["y"], false), (&[], false)]
    {
        let records = naming(caches);
        let linked = records.linked(image, digest("copy"), 0, None).unwrap();
        assert_eq!(linked.contains(&number), is_found, "{caches:?}");
        let found = records.results(number).unwrap();
        assert_eq!(found.len(), usize::from(is_found), "{caches:?}");
        // A build that uses it passes the assumption on.
        assert!(found.iter().all(|found| *found.chain.assumed() == says("x", "base")));
    }

    // The truth is another record, which everybody finds; the other one stays what it is.
    let records = naming(&[]);
    let own = records.save(&copy(chain(&["true"]))).unwrap();
    assert_ne!(own, number);
    assert_eq!(records.linked(image, digest("copy"), 0, None).unwrap(), [own]);
    assert!(records.results(own).unwrap()[0].chain.assumed().is_empty());
    let both = naming(&["x"]).linked(image, digest("copy"), 0, None).unwrap();
    assert_eq!(both, [number, own]);
}

#[test]
fn a_content_that_a_cache_had_a_say_in_marks_who_goes_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let records = naming(folder.path(), &["x"]);
    let image = records.save(&root_record("image")).unwrap();
    let content = digest("content");
    records.store.note_content(content, &says("x", "base"));
    let copy = |links: Vec<Link>| NewRecord {
        digest: digest("copy"),
        inputs: vec![links],
        output: Some(chain(&["copied"])),
    };
    let number = records.save(&copy(vec![link(image, None), Link::Content(content)])).unwrap();

    let others = naming(folder.path(), &[]);
    assert_eq!(others.linked(image, digest("copy"), 0, None).unwrap(), [0; 0]);
    // What a build learns from the record, it takes over with its mark.
    let again = naming(folder.path(), &["x"]);
    assert!(again.store.content_assumptions(&content).is_empty());
    assert!(again.content_links(number, 0).unwrap().contains(&content));
    assert_eq!(again.store.content_assumptions(&content), says("x", "base"));
}

#[test]
fn what_the_layer_shows_settles_what_a_cache_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let records = naming(folder.path(), &["x"]);
    let image = records.save(&root_record("image")).unwrap();
    let mut writer = records.store.layer_writer(layer::Compression::None).unwrap();
    let entry = layer::Entry {
        path: Box::from(*b"file"),
        kind: layer::EntryKind::Fifo,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: layer::Time::default(),
        xattrs: Vec::new(),
    };
    writer.append(&entry, None).unwrap();
    let layer = writer.finish().unwrap();
    let own = records.store.own_index(&layer.diff_id).unwrap().digest();
    for (name, index, serves) in [("true", own, true), ("false", digest("other"), false)] {
        let claim = layer::Claim::Index(index);
        let said = layer::Assumption { cache: "x".into(), diff_id: layer.diff_id, claim };
        let output = chain(&[name]).assuming(&[said].into_iter().collect());
        let inputs = vec![vec![link(image, None)]];
        let record = NewRecord { digest: digest(name), inputs, output: Some(output) };
        records.save(&record).unwrap();
        // The true one serves all, the false one nobody.
        for caches in [&["x"][..], &[]] {
            let records = naming(folder.path(), caches);
            let linked = records.linked(image, digest(name), 0, None).unwrap();
            assert_eq!(!linked.is_empty(), serves, "{name} {caches:?}");
        }
    }
}

#[test]
fn what_nobody_saw_takes_no_place_in_a_chain() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    let image = records.save(&root_record("image")).unwrap();
    let save = |name: &str, chain: Chain| {
        let inputs = vec![vec![link(image, None)]];
        let record = NewRecord { digest: digest(name), inputs, output: Some(chain) };
        records.save(&record).unwrap()
    };
    let number = save("copy", chain(&["base", "copied"]));
    // A cache says that another blob is the base.
    let mut evil = layer("base");
    evil.blob = Some(Descriptor::of(media_type::OCI_LAYER, b"evil"));
    save("other", Chain::new().with(evil).with(layer("other")));
    let found = open(folder.path()).results(number).unwrap();
    assert_eq!(found[0].chain.layers(), chain(&["base", "copied"]).layers());
}

#[test]
fn every_output_keeps_its_times() {
    let folder = tempfile::tempdir().unwrap();
    let records = open(folder.path());
    let dated = |names: &[(&str, &str)]| -> Chain {
        let layer =
            |(name, time): &(&str, &str)| Layer { created: Some((*time).into()), ..layer(name) };
        names.iter().map(layer).collect()
    };
    let save = |name: &str, chain: &Chain| {
        let record = NewRecord { output: Some(chain.clone()), ..root_record(name) };
        records.save(&record).unwrap()
    };
    let times = |number: i64| -> Vec<Vec<String>> {
        let found = records.results(number).unwrap();
        let created = |layer: Layer| layer.created.unwrap();
        found.iter().map(|found| found.chain.layers().into_iter().map(created).collect()).collect()
    };
    let old = dated(&[("base", "2018"), ("empty", "2019")]);
    let new = dated(&[("base", "2018"), ("empty", "2026")]);
    let above = new.with(Layer { created: Some("2027".into()), ..layer("above") });
    let (image, run, next) = (save("image", &old), save("run", &new), save("next", &above));
    for _ in 0..2 {
        assert_eq!(times(image), [["2018", "2019"]]);
        assert_eq!(times(run), [["2018", "2026"]]);
        assert_eq!(times(next), [["2018", "2026", "2027"]]);
        save("image", &old);
    }
    // The same once more: the later one counts.
    save("run", &dated(&[("base", "2018"), ("empty", "2028")]));
    assert_eq!(times(run), [["2018", "2028"]]);
    assert_eq!(times(next), [["2018", "2026", "2027"]]);
}
