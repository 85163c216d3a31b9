//! The samples of a tar shard: names, offsets, lengths and classes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, Entry, EntryType};

use super::super::list::is_image;
use super::super::tool_files::is_tool_path;
use super::DataError;
use super::compression;

/// The largest image in a shard, in bytes: 256 MiB.
pub(super) const LARGEST: u64 = 256 << 20;

/// The largest number of bytes that are read from one entry to the next. Names and attributes of real entries are far
/// shorter.
const HEADERS: u64 = 1 << 20;

/// The largest class file, in bytes.
const CLASS: u64 = 32;

/// An image in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Path within the shard.
    pub name: Box<str>,
    /// Offset of its first byte in the shard.
    pub offset: u64,
    /// Number of bytes, at most [`LARGEST`].
    pub length: usize,
    /// Its class, if it has one.
    pub class: Option<usize>,
}

/// A sample that is being read.
#[derive(Default)]
struct Open {
    key: String,
    image: Option<(Box<str>, u64, u64)>,
    class: Option<usize>,
}

/// The samples of a shard, in its order, and what was skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub samples: Vec<Sample>,
    pub skipped: Skipped,
}

/// Entries of a shard that are no images of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Entries of tools, such as `._000.jpg` of macOS.
    pub tools: usize,
    /// Samples whose key an earlier sample has.
    pub duplicates: usize,
    /// Images with several dots in their names, and one of them.
    pub dots: usize,
    pub dots_example: Option<String>,
}

/// Reads the headers of a shard. Samples without an image are skipped.
pub(super) fn read(shard: &Path) -> Result<Index, DataError> {
    let wrong = |problem: String| DataError::Shard { path: shard.into(), problem };
    let failed = |error: io::Error| wrong(format!("cannot read it as a tar file: {error}"));
    let file = File::open(shard).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if let Some(problem) = compression::problem(shard).map_err(failed)? {
        return Err(wrong(problem));
    }
    let left = Arc::new(AtomicU64::new(HEADERS));
    let mut archive = Archive::new(Bounded { file, left: left.clone() });
    let (mut found, mut open, mut entries) = (Index::default(), Open::default(), 0);
    // Keys of the samples before, and whether they have an image.
    let mut keys: HashMap<String, bool> = HashMap::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        left.store(HEADERS, Ordering::Relaxed);
        entries += 1;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Directory | EntryType::XGlobalHeader) {
            continue;
        }
        let name = name(&entry).map_err(wrong)?;
        if is_tool_path(Path::new(&name)) {
            found.skipped.tools += 1;
            continue;
        }
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) || is_sparse(&mut entry).map_err(failed)? {
            return Err(wrong(format!("{name} is a link, a sparse file or a special file; expected plain files")));
        }
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(wrong(format!("it is truncated within {name}; copy it again")));
        }
        let (key, ending) = split(&name);
        if open.key != key {
            found.close(std::mem::take(&mut open), &mut keys).map_err(wrong)?;
            open.key = key.to_owned();
        }
        let twice = || wrong(format!("{key} has two files that end in .{ending}"));
        if is_image(Path::new(&name)) && ending.contains('.') {
            found.skipped.dots += 1;
            found.skipped.dots_example.get_or_insert_with(|| name.clone());
        } else if is_image(Path::new(&name)) {
            if length > LARGEST {
                return Err(wrong(format!("{name} has {length} bytes; an image may have at most {LARGEST}")));
            }
            if open.image.replace((name.as_str().into(), offset, length)).is_some() {
                return Err(twice());
            }
        } else if ending == "cls" && open.class.replace(class(&mut entry, &name).map_err(wrong)?).is_some() {
            return Err(twice());
        }
    }
    found.close(open, &mut keys).map_err(wrong)?;
    if entries == 0 && size > 0 && !is_empty_archive(shard) {
        return Err(wrong("it is not a tar file".into()));
    }
    Ok(found)
}

impl Skipped {
    /// Adds what was skipped in another shard.
    pub(super) fn add(&mut self, other: Self) {
        self.tools += other.tools;
        self.duplicates += other.duplicates;
        self.dots += other.dots;
        self.dots_example = self.dots_example.take().or(other.dots_example);
    }

    /// A message for each kind of skipped entry.
    pub(super) fn notes(&self, path: &Path) -> Vec<String> {
        let path = path.display();
        let mut notes = Vec::new();
        if self.tools > 0 {
            notes.push(format!("{path}: skipped {} entries of tools, such as ._NAME of macOS", self.tools));
        }
        if self.duplicates > 0 {
            notes.push(format!("{path}: skipped {} samples with the key of an earlier sample", self.duplicates));
        }
        if let Some(example) = &self.dots_example {
            let count = self.dots;
            notes.push(format!(
                "{path}: skipped {count} images with several dots in their names, such as {example}: WebDataset takes all after \
                 the first dot for the extension; rename them"
            ));
        }
        notes
    }
}

impl Index {
    /// Adds the sample that has been read. A second sample of the same key is skipped; parts of one sample that are not
    /// adjacent are an error, since its class would be lost.
    fn close(&mut self, open: Open, keys: &mut HashMap<String, bool>) -> Result<(), String> {
        if open.image.is_none() && open.class.is_none() {
            return Ok(());
        }
        let key = open.key.clone();
        let has_image = open.image.is_some();
        match keys.get(&key) {
            Some(true) if has_image => self.skipped.duplicates += 1,
            Some(_) => {
                return Err(format!(
                    "the files of {key} are not adjacent; pack the files of a sample one after another"
                ));
            }
            None => {
                keys.insert(key, has_image);
                self.samples.extend(open.sample());
            }
        }
        Ok(())
    }
}

impl Open {
    fn sample(self) -> Option<Sample> {
        let (name, offset, length) = self.image?;
        Some(Sample { name, offset, length: usize::try_from(length).ok()?, class: self.class })
    }
}

/// The path of an entry without a leading `./`. A path outside of the archive is an error.
fn name(entry: &Entry<'_, Bounded>) -> Result<String, String> {
    let bytes = entry.path_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let path = Path::new(&text);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if text.contains('\\') || text.contains(char::is_control) || !path.components().all(inside) {
        return Err(format!("{text:?} leads out of the archive or is no path, expected paths below it"));
    }
    Ok(text.trim_start_matches("./").to_owned())
}

/// Whether an entry is a sparse file by its PAX attributes although its header says that it is a plain file.
fn is_sparse(entry: &mut Entry<'_, Bounded>) -> io::Result<bool> {
    let Some(attributes) = entry.pax_extensions()? else { return Ok(false) };
    for attribute in attributes {
        if attribute?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Key and extension of a name: WebDataset splits at the first dot after the last slash.
fn split(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], &name[file + dot + 1..]),
        None => (name, ""),
    }
}

/// Reads a class in plain text.
fn class(entry: &mut Entry<'_, Bounded>, name: &str) -> Result<usize, String> {
    let mut text = String::new();
    let wrong = |found: &str| format!("{name} holds {found}, expected the index of a class, such as 17");
    if entry.size() > CLASS {
        return Err(wrong(&format!("{} bytes", entry.size())));
    }
    entry.read_to_string(&mut text).map_err(|error| wrong(&error.to_string()))?;
    text.trim().parse().map_err(|_| wrong(&format!("{text:?}")))
}

/// Whether a file is an empty archive: blocks of zeros.
fn is_empty_archive(shard: &Path) -> bool {
    let mut start = [0_u8; 512];
    File::open(shard).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == [0; 512]
}

/// A file with a limit on the bytes that are read between two entries: the tar crate would read a name of gigabytes into
/// memory if the archive claims one.
struct Bounded {
    file: File,
    left: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.load(Ordering::Relaxed);
        match left.checked_sub(count as u64) {
            Some(left) => self.left.store(left, Ordering::Relaxed),
            None => return Err(io::Error::other("a name or an attribute is longer than 1 MiB")),
        }
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
