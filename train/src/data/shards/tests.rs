use std::fs;
use std::io::Cursor;
use std::sync::Arc;

use explainer_zoo::image::Filter;
use image::{ImageFormat, Rgb, RgbImage};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::data::{Loader, LoaderOptions, Order};

fn preprocessing() -> Preprocessing {
    Preprocessing { resize: 8, crop: 8, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
}

fn png(red: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(9, 8, Rgb([red, 0, 0])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A tar file of these entries.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Three shards of four samples each, whose red value is their number.
fn shards(folder: &Path) -> PathBuf {
    for shard in 0..3_u8 {
        let images: Vec<Vec<u8>> = (0..4).map(|n| png(4 * shard + n)).collect();
        let classes: Vec<String> = (0..4).map(|n| format!("{}\n", 4 * shard + n)).collect();
        let names: Vec<String> = (0..4).map(|n| format!("./{n:03}")).collect();
        let endings: Vec<[String; 3]> =
            names.iter().map(|n| ["png", "cls", "json"].map(|e| format!("{n}.{e}"))).collect();
        let files: Vec<(&str, &[u8])> = (0..4)
            .flat_map(|n| {
                let [image, class, other] = &endings[n];
                [(image.as_str(), &images[n][..]), (class, classes[n].as_bytes()), (other, b"{}")]
            })
            .collect();
        fs::write(folder.join(format!("train-{shard:02}.tar")), tar(&files)).unwrap();
    }
    folder.join("train-{00..02}.tar")
}

#[test]
fn shards_are_a_set_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let path = shards(folder.path());
    assert!(ShardSet::is_shard_pattern(&path) && !ShardSet::is_shard_pattern(folder.path()));
    let set = ShardSet::open(&path, preprocessing()).unwrap();
    assert_eq!((set.len(), set.shard_starts()), (12, &[0, 4, 8][..]));
    for index in [0, 3, 4, 11] {
        assert_eq!(set.class(index), Some(index));
        assert_eq!(set.load(index, Crop::Centre).unwrap().values[0], index as f32 / 255.0);
    }
    assert_eq!(set.id(5), "train-01.tar:001.png");
    assert!(set.name(5).ends_with("/train-01.tar:001.png"));
}

#[test]
fn an_epoch_takes_every_sample_once_and_goes_on_at_any() {
    let folder = tempfile::tempdir().unwrap();
    let set = Arc::new(ShardSet::open(&shards(folder.path()), preprocessing()).unwrap());
    let options = LoaderOptions { batch_size: 3, ..LoaderOptions::training(3, 2, 5) };
    let batches = |from| -> Vec<Vec<usize>> {
        Loader::new(set.clone(), options.clone(), from).unwrap().map(|batch| batch.unwrap().indices).collect()
    };
    let all = batches(0);
    let mut first: Vec<usize> = all[..4].concat();
    assert_ne!(first, (0..12).collect::<Vec<_>>());
    first.sort_unstable();
    assert_eq!(first, (0..12).collect::<Vec<_>>());
    assert_eq!(batches(5), all[5..], "as a resumed run does");
}

#[test]
fn several_processes_read_shards_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let set = Arc::new(ShardSet::open(&shards(folder.path()), preprocessing()).unwrap());
    let read = |(rank, world_size), from| -> Vec<Vec<usize>> {
        let options = LoaderOptions { rank, world_size, split_shards: true, ..LoaderOptions::training(6, 2, 5) };
        Loader::new(set.clone(), options, from).unwrap().map(|batch| batch.unwrap().indices).collect()
    };
    let shares: Vec<_> = (0..3).map(|number| read((number, 3), 0)).collect();
    for epoch in 0..2 {
        let mut seen = Vec::new();
        for share in &shares {
            let own = share[2 * epoch..2 * epoch + 2].concat();
            assert!(own.iter().all(|image| image / 4 == own[0] / 4), "one shard each: {own:?}");
            seen.extend(own);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
    }
    assert_eq!(read((1, 3), 3), shares[1][3..], "as a resumed run does");
    // With fewer shards than processes each reads its part of the batches.
    let parts: Vec<usize> = (0..6).flat_map(|number| read((number, 6), 0)[0].clone()).collect();
    assert_eq!(parts, read((0, 1), 0)[0]);
}

#[test]
fn few_shards_are_read_at_a_time() {
    // 40 shards of 100 images: at any time images of at most a window of shards are mixed.
    let starts: Vec<usize> = (0..40).map(|shard| 100 * shard).collect();
    let order = Order::of_shards(4000, &starts, 1, 0);
    let mut all = order.indices().to_vec();
    for window in all.chunks(100 * Order::SHUFFLED_SHARDS) {
        let shards: std::collections::BTreeSet<usize> = window.iter().map(|index| index / 100).collect();
        assert!(shards.len() <= Order::SHUFFLED_SHARDS, "{shards:?}");
    }
    assert_ne!(order, Order::of_shards(4000, &starts, 1, 1));
    all.sort_unstable();
    assert!(all.into_iter().eq(0..4000));
}

fn problem(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    fs::write(&path, bytes).unwrap();
    let problem = ShardSet::open(&path, preprocessing()).unwrap_err().to_string();
    assert!(problem.contains("s.tar"), "{problem}");
    problem
}

/// An entry whose header is written as it is given.
fn raw(name: &[u8], kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[test]
fn broken_and_hostile_shards_are_refused() {
    let image = png(1);
    let whole = tar(&[("a.png", &image)]);
    assert!(problem(&whole[..512 + image.len() / 2]).contains("truncated within a.png"));
    assert!(problem(&[7; 4000]).contains("cannot read it as a tar file"));
    assert!(problem(b"short").contains("cannot read it as a tar file"));
    assert!(problem(&[]).contains("found no image"));
    assert!(problem(&tar(&[])).contains("found no image"));
    assert!(problem(&tar(&[("a.txt", b"text")])).contains("found no image"));
    for name in [&b"../a.png"[..], b"/etc/a.png", b"b/../../a.png", b"b\\a.png"] {
        assert!(problem(&raw(name, EntryType::Regular, 3, b"abc")).contains("leads out of the archive"));
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
        assert!(problem(&raw(b"a.png", kind, 0, b"")).contains("expected plain files"), "{kind:?}");
    }
    assert!(problem(&raw(b"a.png", EntryType::Regular, 1 << 40, b"abc")).contains("truncated within a.png"));
    assert!(problem(&raw(b"a.png", EntryType::Regular, u64::MAX, b"abc")).contains("cannot read it as a tar file"));
    assert!(problem(&raw(b"a.png", EntryType::GNUSparse, 0, b"")).contains("cannot read it as a tar file"));
    assert!(problem(&raw(b"a\x1b[31m.png", EntryType::Regular, 3, b"abc")).contains("is no path"));
    assert!(problem(&raw(b"n", EntryType::GNULongName, 3 << 20, &[b'a'; 3 << 20])).contains("longer than 1 MiB"));
    assert!(problem(&tar(&[("a.png", &image), ("a.png", &image)])).contains("two files that end in .png"));
    assert!(
        problem(&tar(&[("a.png", &image), ("b.png", &image), ("a.cls", b"1")]))
            .contains("the files of a are not adjacent")
    );
    let mut sparse = Builder::new(Vec::new());
    sparse.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
    let mut header = Header::new_gnu();
    header.set_size(image.len() as u64);
    sparse.append_data(&mut header, "a.png", &image[..]).unwrap();
    assert!(problem(&sparse.into_inner().unwrap()).contains("sparse"));
    assert!(problem(&tar(&[("a.png", &image), ("a.cls", b"dog")])).contains("a.cls holds \"dog\""));
    assert!(problem(&tar(&[("a.png", &image), ("a.cls", &[b'1'; 40])])).contains("a.cls holds 40 bytes"));
}

#[test]
fn sets_with_the_same_names_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    let digest = |files: &[(&str, &[u8])]| {
        fs::write(&path, tar(files)).unwrap();
        ShardSet::open(&path, preprocessing()).unwrap().digest()
    };
    let [one, other] = [png(1), [png(1), vec![0; 600]].concat()];
    let first = digest(&[("a.png", &one), ("b.png", &one)]);
    assert_eq!(first, digest(&[("a.png", &one), ("b.png", &one)]));
    assert_ne!(first, digest(&[("a.png", &other), ("b.png", &one)]));
    assert_ne!(first, digest(&[("a.png", &one), ("c.png", &one)]));
}

#[test]
fn annotations_are_found_by_the_name_in_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s.tar"), tar(&[("in/a.png", &png(1)), ("in/b.png", &png(2))])).unwrap();
    fs::write(folder.path().join("boxes.csv"), "image,xmin,ymin,xmax,ymax\na.png,0,0,9,4\nin/b.png,0,0,4,8\n").unwrap();
    let objects = Objects::open(&folder.path().join("boxes.csv")).unwrap();
    let set = ShardSet::open(&folder.path().join("s.tar"), preprocessing()).unwrap();
    for index in [0, 1] {
        assert_eq!(set.truth(index, &objects).unwrap().boxes.len(), 1, "{index}");
    }
}

/// A shard of these entries, opened, and the folder that it is in.
fn opened(name: &str, files: &[(&str, &[u8])]) -> (tempfile::TempDir, ShardSet) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, tar(files)).unwrap();
    let set = ShardSet::open(&path, preprocessing()).unwrap();
    (folder, set)
}

#[test]
fn entries_of_tools_are_skipped_and_counted() {
    let image = png(1);
    let (_folder, set) = opened(
        "mac.tar",
        &[
            ("./._000.png", b"double"),
            ("./000.png", &image),
            ("./._000.cls", b"double"),
            ("./000.cls", b"3"),
            ("__MACOSX/000.png", &image),
            ("a/@eaDir/000.png", &image),
            ("./001.JPG", &image),
            ("./001.cls", b"4"),
        ],
    );
    assert_eq!((set.len(), set.class(0), set.class(1)), (2, Some(3), Some(4)));
    assert!(set.notes()[0].ends_with("skipped 4 entries of tools, such as ._NAME of macOS"), "{:?}", set.notes());
}

#[test]
fn a_second_sample_of_the_same_key_is_skipped_and_counted() {
    let (first, second) = (png(1), png(2));
    let files: [(&str, &[u8]); 5] =
        [("a.png", &first), ("a.cls", b"1"), ("b.png", &first), ("a.png", &second), ("a.cls", b"2")];
    let (_folder, set) = opened("s.tar", &files);
    assert_eq!((set.len(), set.class(0)), (2, Some(1)));
    assert_eq!(set.load(0, Crop::Centre).unwrap().values[0], 1.0 / 255.0);
    assert!(set.notes()[0].ends_with("skipped 1 samples with the key of an earlier sample"), "{:?}", set.notes());
}

#[test]
fn images_with_several_dots_are_named() {
    let image = png(1);
    let (_folder, set) = opened("s.tar", &[("v1.000.png", &image), ("v2.png", &image)]);
    assert_eq!((set.len(), set.name(0).ends_with("v2.png")), (1, true));
    assert!(set.notes()[0].contains("skipped 1 images with several dots in their names, such as v1.000.png"));
    assert!(problem(&tar(&[("v1.000.png", &image)])).contains("such as v1.000.png"));
}

#[test]
fn long_names_are_read_in_both_formats() {
    let image = png(1);
    let name = format!("{}a.png", "folder/".repeat(30));
    // The tar crate writes GNU's long names; PAX has them in an attribute.
    let (_folder, set) = opened("gnu.tar", &[(&name, &image)]);
    assert!(set.name(0).ends_with(&name), "{}", set.name(0));
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
    let mut header = Header::new_ustar();
    header.set_size(image.len() as u64);
    builder.append_data(&mut header, "cut/a.png", &image[..]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pax.tar"), builder.into_inner().unwrap()).unwrap();
    let set = ShardSet::open(&folder.path().join("pax.tar"), preprocessing()).unwrap();
    assert!(set.name(0).ends_with(&name), "{}", set.name(0));
}

#[test]
fn compressed_shards_are_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    for (name, magic, expected) in [
        ("a.tar", &b"\x1f\x8b\x08\0"[..], "compressed with gzip"),
        ("a-00.tar.gz", b"\x1f\x8b\x08\0", "`gunzip "),
        ("a.tgz", b"\x1f\x8b\x08\0", "compressed with gzip"),
        ("a.tar.zst", b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    ] {
        fs::write(folder.path().join(name), magic).unwrap();
        let path = folder.path().join(name.replace("00", "{00..00}"));
        assert!(ShardSet::is_shard_pattern(&path), "{name}");
        let problem = ShardSet::open(&path, preprocessing()).unwrap_err().to_string();
        assert!(problem.contains(expected) && problem.contains(name), "{problem}");
    }
}

#[test]
fn a_part_of_a_set_keeps_its_shards() {
    let folder = tempfile::tempdir().unwrap();
    let set: Arc<dyn ImageSet> = Arc::new(ShardSet::open(&shards(folder.path()), preprocessing()).unwrap());
    let part = crate::data::Subset::sample(set.clone(), 6, 1);
    let parents: Vec<usize> = (0..6).filter_map(|index| part.parent_index(index)).collect();
    for (shard, start) in part.shard_starts().iter().enumerate() {
        assert_eq!(*start, parents.iter().filter(|index| **index < 4 * shard).count());
    }
}

#[test]
fn a_huge_image_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.tar");
    fs::write(&path, raw(b"a.png", EntryType::Regular, 1 << 30, b"abc")).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 30).unwrap(); // of holes
    let problem = ShardSet::open(&path, preprocessing()).unwrap_err().to_string();
    assert!(problem.contains("a.png has 1073741824 bytes; an image may have at most 268435456"), "{problem}");
}

#[test]
fn a_missing_shard_is_named_and_a_broken_image_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    shards(folder.path());
    let problem = ShardSet::open(&folder.path().join("train-{00..03}.tar"), preprocessing()).unwrap_err().to_string();
    assert!(problem.contains("train-03.tar"), "{problem}");
    let path = folder.path().join("b.tar");
    let long = format!("{}b.png", "long/".repeat(30));
    fs::write(&path, tar(&[("a.png", b"no image"), (&long, &png(3))])).unwrap();
    let set = ShardSet::open(&path, preprocessing()).unwrap();
    let problem = set.load(0, Crop::Centre).unwrap_err().to_string();
    assert!(problem.contains("b.tar:a.png"), "{problem}");
    assert!(set.load(1, Crop::Centre).is_ok());
    fs::write(&path, b"").unwrap();
    assert!(set.load(1, Crop::Centre).unwrap_err().to_string().contains("b.tar:long/"), "it was truncated since");
}
