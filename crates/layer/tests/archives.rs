//! Archives: written as by Go, read from any writer, and hostile ones refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{self, Read};

use layer::tar::{Limits, Mode, TarReader, TarWriter};
use layer::{Entry, EntryKind, Error, Time};

/// Written by Go's archive/tar with the headers that containerd's differ makes: every kind, names
/// that ustar splits or cannot hold, large owners, odd times, attributes with binary values.
const GO: &[u8] = include_bytes!("vectors/go.tar");

type Read1 = (Entry, Vec<u8>);

fn read(archive: &[u8], mode: Mode, limits: Limits) -> Result<Vec<Read1>, Error> {
    let mut reader = TarReader::new(archive, mode, limits);
    let mut all = Vec::new();
    while let Some((entry, mut content)) = reader.next_entry()? {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes).map_err(|source| Error::ReadArchive { source })?;
        all.push((entry, bytes));
    }
    Ok(all)
}

fn read_archive(archive: &[u8]) -> Result<Vec<Read1>, Error> {
    read(archive, Mode::Archive, Limits::default())
}

fn write(entries: &[Read1]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().into(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { seconds: 1, nanos: 0 },
        xattrs: Vec::new(),
    }
}

/// Makes a header block by hand: name, type, size, link name.
fn block(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000001\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn what_go_wrote_is_read_and_written_again_byte_for_byte() {
    let entries = read(GO, Mode::Layer, Limits::default()).unwrap();
    assert_eq!(entries.len(), 19);
    let (capable, _) = entries.iter().find(|(entry, _)| &*entry.path == b"k").unwrap();
    assert_eq!(&*capable.xattrs[0].1, b"\x01\0\0\x02\x0a\x0a\0=\n\0");
    let (odd, _) = entries.iter().find(|(entry, _)| &*entry.path == b"i").unwrap();
    assert_eq!(odd.mtime, Time { seconds: -5, nanos: 250_000_000 });
    assert_eq!(entries[17].0.kind, EntryKind::Whiteout);
    assert_eq!((&*entries[18].0.path, &entries[18].0.kind), (&b"l"[..], &EntryKind::Opaque));
    let again = write(&entries);
    for (place, (ours, theirs)) in again.chunks(512).zip(GO.chunks(512)).enumerate() {
        assert!(ours == theirs, "block {place}: {}", ours.escape_ascii());
    }
    assert_eq!(again.len(), GO.len());
}

#[test]
fn whiteout_names_mean_nothing_in_an_archive_that_is_no_layer() {
    let entries = read_archive(GO).unwrap();
    assert_eq!(&*entries[17].0.path, b"l/.wh.gone");
    assert_eq!(entries[17].0.kind, EntryKind::File { size: 0 });
}

#[test]
fn paths_stay_inside_the_root() {
    for (raw, clean) in [
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("a/../../b", "b"),
        ("./a//b/.", "a/b"),
        ("./", ""),
    ] {
        let mut archive = block(raw.as_bytes(), b'1', 0, b"../../shadow");
        archive.extend([0; 1024]);
        let entries = read_archive(&archive).unwrap();
        assert_eq!(&*entries[0].0.path, clean.as_bytes(), "{raw}");
        assert_eq!(entries[0].0.kind, EntryKind::HardLink { target: (*b"shadow").into() });
    }
}

#[test]
fn hostile_archives_are_refused() {
    let whiteout_of_parent = block(b"a/.wh...", b'0', 0, b"");
    assert!(read(&whiteout_of_parent, Mode::Layer, Limits::default()).is_err());
    let mut bad_sum = block(b"a", b'0', 0, b"");
    bad_sum[0] = b'b';
    let mut huge = block(b"a", b'0', 0, b"");
    huge[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    seal(&mut huge);
    let mut negative = block(b"a", b'0', 0, b"");
    negative[124..136].fill(0xff);
    seal(&mut negative);
    let pax = |record: &[u8]| {
        [
            block(b"x", b'x', record.len() as u64, b""),
            padded(record.to_vec()),
            block(b"a", b'0', 0, b""),
        ]
        .concat()
    };
    for (what, archive) in [
        ("bad checksum", bad_sum),
        ("size beyond the limit", huge),
        ("negative size", negative),
        ("unknown type", block(b"a", b'V', 0, b"")),
        ("link to nothing", block(b"a", b'2', 0, b"")),
        ("ends in a header", block(b"a", b'0', 0, b"")[..300].to_vec()),
        ("ends in content", [block(b"a", b'0', 9, b""), vec![1; 5]].concat()),
        ("ends in a PAX header", block(b"a", b'x', 512, b"")),
        ("zero byte in path", pax(b"12 path=a\0b\n")),
        ("negative size record", pax(b"11 size=-1\n")),
        ("owner too large", pax(b"18 uid=4294967296\n")),
        ("owner that chown(2) takes for none", pax(b"18 uid=4294967295\n")),
        ("record longer than the header", pax(b"99 path=a\n")),
        ("garbage", vec![0x55; 4096]),
    ] {
        let result = read_archive(&archive);
        assert!(result.is_err(), "{what}: {result:?}");
    }
}

#[test]
fn limits_hold() {
    let limits = Limits::default();
    let three = (0..3).flat_map(|_| block(b"a", b'5', 0, b"")).collect::<Vec<_>>();
    let refused = |archive: &[u8], limits| {
        assert!(matches!(read(archive, Mode::Archive, limits), Err(Error::ArchiveLimit { .. })));
    };
    refused(&three, Limits { max_entries: 2, ..limits });
    refused(&three, Limits { max_path: 0, ..limits });
    refused(&three, Limits { max_total_bytes: 1000, ..limits });
    let long = [block(b"x", b'L', 4096, b""), vec![b'a'; 4096], block(b"a", b'0', 0, b"")].concat();
    refused(&long, Limits { max_header_bytes: 4095, ..limits });
    assert_eq!(read_archive(&long).unwrap()[0].0.path.len(), 4096);
}

#[test]
fn a_sparse_bomb_counts_with_its_holes() {
    // 64 TiB of hole in one PAX 1.0 file.
    let size = 1_u64 << 46;
    let mut records = Vec::new();
    for record in [
        "22 GNU.sparse.major=1\n",
        "22 GNU.sparse.minor=0\n",
        &format!("38 GNU.sparse.realsize={size}\n"),
    ] {
        records.extend_from_slice(record.as_bytes());
    }
    let map = padded(b"0\n".to_vec());
    let archive = [
        block(b"x", b'x', records.len() as u64, b""),
        padded(records),
        block(b"bomb", b'0', 512, b""),
        map,
    ]
    .concat();
    assert!(matches!(read_archive(&archive), Err(Error::ArchiveLimit { .. })));
}

#[test]
fn what_is_small_as_it_comes_may_not_grow_without_end() {
    let of = |size| Limits::DEFAULT.of_compressed(size);
    // Some hundred bytes with a hole of 100 GiB; files of zeros that fit on a disk.
    assert!(of(500).max_total_bytes < 100 << 30 && of(500).max_total_bytes >= 10 << 30);
    assert!(of(500).max_entries < Limits::DEFAULT.max_entries);
    // Large images, whose bytes were all sent.
    let large = of(2 << 30);
    assert_eq!(large, Limits::DEFAULT);
    // Limits that were asked for hold for every size.
    let asked = Limits { free_bytes: 200 << 30, max_total_bytes: 200 << 30, ..Limits::DEFAULT };
    assert_eq!(asked.of_compressed(1).max_total_bytes, 200 << 30);
}

#[test]
fn sparse_files_of_both_formats_read_whole() {
    let mut gnu = block(b"old", b'S', 6, b"");
    gnu[257..265].copy_from_slice(b"ustar  \0");
    gnu[386..398].copy_from_slice(b"00000000003\0");
    gnu[398..410].copy_from_slice(b"00000000003\0");
    gnu[410..422].copy_from_slice(b"00000000010\0");
    gnu[422..434].copy_from_slice(b"00000000003\0");
    gnu[483..495].copy_from_slice(b"00000000015\0");
    seal(&mut gnu);
    let gnu = [gnu, padded(b"abcdef".to_vec())].concat();
    let records =
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=a/new\n26 GNU.sparse.realsize=13\n";
    let pax = [
        block(b"x", b'x', records.len() as u64, b""),
        padded(records.to_vec()),
        block(b"GNUSparseFile.0/new", b'0', 518, b""),
        padded(b"2\n3\n3\n8\n3\n".to_vec()),
        padded(b"abcdef".to_vec()),
    ]
    .concat();
    let entries = read_archive(&[gnu, pax, block(b"next", b'5', 0, b"")].concat()).unwrap();
    for (entry, content) in &entries[..2] {
        assert_eq!(entry.kind, EntryKind::File { size: 13 });
        assert_eq!(content, b"\0\0\0abc\0\0def\0\0");
    }
    assert_eq!(&*entries[1].0.path, b"a/new");
    assert_eq!(&*entries[2].0.path, b"next");
}

#[test]
fn content_must_be_as_long_as_announced() {
    let file = entry("dir/name", EntryKind::File { size: 3 });
    for content in [&b"ab"[..], b"abcd"] {
        let error = TarWriter::new(io::sink()).append(&file, &mut &content[..]).unwrap_err();
        assert!(matches!(&error, Error::ContentSize { path, .. } if path == "dir/name"), "{error}");
    }
}

#[test]
fn only_before_posix_a_slash_makes_a_directory() {
    for (kind, expected) in [
        (0, EntryKind::Directory),
        (b'0', EntryKind::File { size: 0 }),
        (b'7', EntryKind::File { size: 0 }),
        (b'5', EntryKind::Directory),
    ] {
        let archive = padded(block(b"name/", kind, 0, b""));
        for mode in [Mode::Archive, Mode::Layer] {
            let entries = read(&archive, mode, Limits::default()).unwrap();
            assert_eq!((&*entries[0].0.path, &entries[0].0.kind), (&b"name"[..], &expected));
        }
    }
}

#[test]
fn a_file_that_looks_like_a_whiteout_is_written_and_is_one_for_others() {
    let file = entry("a/.wh.b", EntryKind::File { size: 0 });
    let archive = write(&[(file.clone(), Vec::new())]);
    assert_eq!(read_archive(&archive).unwrap(), [(file, Vec::new())]);
    let read = read(&archive, Mode::Layer, Limits::default()).unwrap();
    assert_eq!((&*read[0].0.path, &read[0].0.kind), (&b"a/b"[..], &EntryKind::Whiteout));
}

#[test]
fn cut_archives_never_panic_and_damaged_ones_neither() {
    for end in (0..GO.len()).step_by(97) {
        let _ = read_archive(&GO[..end]);
    }
    for place in (0..GO.len()).step_by(5) {
        let mut damaged = GO.to_vec();
        damaged[place] ^= 0x81;
        let _ =
            read(&damaged, Mode::Layer, Limits { max_total_bytes: 1 << 20, ..Limits::default() });
    }
}
