//! Where the samples of a tar file lie.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, Entry, EntryType};

use super::super::list::is_image;
use super::DataError;

/// The most bytes that an image in a shard may have: 256 MiB.
pub(super) const LARGEST: u64 = 256 << 20;

/// The most bytes that are read to get from one entry to the next; names and attributes of an entry fit many times over.
const HEADERS: u64 = 1 << 20;

/// The most bytes of a class.
const CLASS: u64 = 32;

/// An image in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Path within the shard.
    pub name: Box<str>,
    /// Where its bytes begin in the shard.
    pub offset: u64,
    /// How many there are, at most [`LARGEST`].
    pub length: usize,
    /// Its class, where it has one.
    pub class: Option<usize>,
}

/// What has been read of a sample.
#[derive(Default)]
struct Open {
    key: String,
    image: Option<(Box<str>, u64, u64)>,
    class: Option<usize>,
}

/// The samples of a shard in its order. A sample without an image is none.
pub(super) fn samples(shard: &Path) -> Result<Vec<Sample>, DataError> {
    let wrong = |problem: String| DataError::Shard { path: shard.into(), problem };
    let failed = |error: io::Error| wrong(format!("cannot read it as a tar file: {error}"));
    let file = File::open(shard).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let left = Arc::new(AtomicU64::new(HEADERS));
    let mut archive = Archive::new(Bounded { file, left: left.clone() });
    let (mut samples, mut open, mut keys, mut entries) = (Vec::new(), Open::default(), HashSet::new(), 0);
    for entry in archive.entries_with_seek().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        left.store(HEADERS, Ordering::Relaxed);
        entries += 1;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Directory | EntryType::XGlobalHeader) {
            continue;
        }
        let name = name(&entry).map_err(wrong)?;
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) || is_sparse(&mut entry).map_err(failed)? {
            return Err(wrong(format!("{name} is a link, sparse or a special file, expected plain files")));
        }
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(wrong(format!("it is cut off within {name}: copy it again")));
        }
        let (key, ending) = split(&name);
        if open.key != key {
            samples.extend(std::mem::take(&mut open).sample());
            open.key = key.to_owned();
            if !keys.insert(open.key.clone()) {
                return Err(wrong(format!("files of {key} lie apart, expected those of a sample side by side")));
            }
        }
        let twice = || wrong(format!("{key} has two files that end in .{ending}"));
        if is_image(Path::new(&name)) && !ending.contains('.') {
            if length > LARGEST {
                return Err(wrong(format!(
                    "{name} has {length} bytes, more than the {LARGEST} that an image may have"
                )));
            }
            if open.image.replace((name.as_str().into(), offset, length)).is_some() {
                return Err(twice());
            }
        } else if ending == "cls" && open.class.replace(class(&mut entry, &name).map_err(wrong)?).is_some() {
            return Err(twice());
        }
    }
    samples.extend(open.sample());
    if entries == 0 && size > 0 && !is_empty_archive(shard) {
        return Err(wrong("it is not a tar file".into()));
    }
    Ok(samples)
}

impl Open {
    fn sample(self) -> Option<Sample> {
        let (name, offset, length) = self.image?;
        Some(Sample { name, offset, length: usize::try_from(length).ok()?, class: self.class })
    }
}

/// The path of an entry without a leading `./`; refused if it leads out of the archive.
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

/// Whether an entry is a plain file to the header and a sparse one to its attributes: its bytes begin with a map.
fn is_sparse(entry: &mut Entry<'_, Bounded>) -> io::Result<bool> {
    let Some(attributes) = entry.pax_extensions()? else { return Ok(false) };
    for attribute in attributes {
        if attribute?.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Key and ending of a name: WebDataset cuts at the first dot behind the last slash.
fn split(name: &str) -> (&str, &str) {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], &name[file + dot + 1..]),
        None => (name, ""),
    }
}

/// A class in plain text.
fn class(entry: &mut Entry<'_, Bounded>, name: &str) -> Result<usize, String> {
    let mut text = String::new();
    let wrong = |found: &str| format!("{name} holds {found}, expected the index of a class, such as 17");
    if entry.size() > CLASS {
        return Err(wrong(&format!("{} bytes", entry.size())));
    }
    entry.read_to_string(&mut text).map_err(|error| wrong(&error.to_string()))?;
    text.trim().parse().map_err(|_| wrong(&format!("{text:?}")))
}

/// Whether a file is the end of an archive alone: blocks of zeros.
fn is_empty_archive(shard: &Path) -> bool {
    let mut start = [0_u8; 512];
    File::open(shard).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == [0; 512]
}

/// A file of which only so much may be read between two entries: an archive may claim that a name is gigabytes long, and
/// would be believed.
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
            None => return Err(io::Error::other("a name or an attribute has more than a mebibyte")),
        }
        Ok(count)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
