//! Compressed shards, which cannot be read at random.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// First bytes, name and remedy of compressed formats.
const FORMATS: [(&[u8], &str, &str); 5] = [
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
];

/// The problem with a shard that is compressed as a whole, known by its first bytes and not by its name.
pub(super) fn problem(shard: &Path) -> io::Result<Option<String>> {
    let mut start = Vec::new();
    File::open(shard)?.take(8).read_to_end(&mut start)?;
    let format = FORMATS.iter().find(|(magic, ..)| start.starts_with(magic));
    Ok(format.map(|(_, name, tool)| {
        format!(
            "it is compressed with {name}, but shards are read at random positions; decompress it with `{tool} {}` and give \
             the .tar file",
            shard.display()
        )
    }))
}
