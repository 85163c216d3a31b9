//! Downloads from `https://` addresses into a cache whose files are named by their SHA-256.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::RETRY_AFTER;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::parse::{file_name, is_loopback};
use super::{Expected, Progress, Resolved, SourceSettings, WeightSourceError};
use crate::retry::{retry, retry_after};
use crate::weights::hash::{CHUNK, hex, is_sha256, sha256_file};

/// How often a download with a transient error is retried.
pub(super) const RETRIES: usize = 3;
/// The longest silence of a server, while connecting or in the middle of a file.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The file at `url` from the cache or from the network, with its SHA-256 checked.
pub(super) fn fetch(
    url: &str,
    expected: &Expected,
    settings: &SourceSettings,
    progress: &mut Progress<'_>,
) -> Result<Resolved, WeightSourceError> {
    let folder = settings.cache_dir.as_deref().ok_or(WeightSourceError::NoCacheFolder)?;
    fs::create_dir_all(folder).map_err(|source| WeightSourceError::io("create the cache folder", folder, source))?;
    if let Some((path, sha256)) = cached(folder, expected)? {
        return Ok(Resolved { path, sha256, origin: url.to_owned() });
    }
    let client = client(url)?;
    retry(RETRIES, settings.backoff, &mut std::thread::sleep, || download(&client, url, expected, folder, progress))
}

/// A cached file with the expected SHA-256, and its whole SHA-256. A file whose bytes do not match its name is removed.
fn cached(folder: &Path, expected: &Expected) -> Result<Option<(PathBuf, String)>, WeightSourceError> {
    let failed = |source| WeightSourceError::io("read the cache folder", folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !is_sha256(stem) || !stem.starts_with(&expected.digits) {
            continue;
        }
        if sha256_file(&path)? == stem {
            let sha256 = stem.to_owned();
            return Ok(Some((path, sha256)));
        }
        fs::remove_file(&path).map_err(|source| WeightSourceError::io("remove the damaged", &path, source))?;
    }
    Ok(None)
}

fn client(url: &str) -> Result<Client, WeightSourceError> {
    let loopback = Url::parse(url).is_ok_and(|url| is_loopback(&url));
    // A redirect must not leave `https`.
    let mut builder = Client::builder().timeout(TIMEOUT).https_only(!loopback);
    if loopback {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| network(url, &error))
}

fn download(
    client: &Client,
    url: &str,
    expected: &Expected,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Resolved, WeightSourceError> {
    let mut response = client.get(url).send().map_err(|error| network(url, &error))?;
    let status = response.status();
    if !status.is_success() {
        let wait = retry_after(response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()));
        return Err(WeightSourceError::Http { url: url.to_owned(), status: status.as_u16(), wait });
    }
    let total = response.content_length();

    let written = |source| WeightSourceError::io("write to the cache folder", folder, source);
    // Removed when dropped, after any error.
    let mut file = temporary_file(folder).map_err(written)?;
    let mut hash = Sha256::new();
    let mut done = 0;
    let mut chunk = vec![0; CHUNK];
    progress(done, total);
    loop {
        let count = response.read(&mut chunk).map_err(|error| network(url, &error))?;
        if count == 0 {
            break;
        }
        file.write_all(&chunk[..count]).map_err(written)?;
        hash.update(&chunk[..count]);
        done += count as u64;
        progress(done, total);
    }

    let sha256 = hex(hash);
    expected.check(url, &sha256)?;
    let path = folder.join(format!("{sha256}{}", extension(url)));
    file.persist(&path).map_err(|error| WeightSourceError::io("write", &path, error.error))?;
    Ok(Resolved { path, sha256, origin: url.to_owned() })
}

/// A separate file for each download: several processes may download the same weights at once.
fn temporary_file(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".download-");
    #[cfg(unix)]
    {
        // Temporary files are private by default, but a cache may be shared: the umask decides.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// `.pth` of `https://host/net.pth?raw=1`; empty if that is no usual extension.
fn extension(url: &str) -> String {
    match file_name(url).rsplit_once('.') {
        Some((_, end)) if (1..=16).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!(".{end}")
        }
        _ => String::new(),
    }
}

fn network(url: &str, error: &(dyn Error + 'static)) -> WeightSourceError {
    WeightSourceError::Network { url: url.to_owned(), reason: root_cause(error) }
}

/// The innermost cause, such as "Connection refused": the outer errors only say that a request failed.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use hub_server::{Answer, TestServer, refused_url};

    use super::super::WeightSource;
    use super::*;

    const BODY: &[u8] = b"abc";
    const SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    struct Cache(tempfile::TempDir);

    impl Cache {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn fetch(&self, url: &str, sha256: Option<&str>) -> Result<Resolved, WeightSourceError> {
            self.fetch_watched(url, sha256, &mut |_, _| {})
        }

        fn fetch_watched(
            &self,
            url: &str,
            sha256: Option<&str>,
            progress: &mut Progress<'_>,
        ) -> Result<Resolved, WeightSourceError> {
            let mut settings = SourceSettings::from_env();
            settings.cache_dir = Some(self.0.path().join("explainer"));
            settings.backoff = Duration::ZERO;
            url.parse::<WeightSource>()?.resolve(sha256, &settings, progress)
        }

        fn files(&self) -> Vec<String> {
            let Ok(entries) = fs::read_dir(self.0.path().join("explainer")) else { return Vec::new() };
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    fn server(answer: Answer) -> TestServer {
        TestServer::start(move |_, _| answer.clone())
    }

    #[test]
    fn a_download_is_checked_kept_and_used_without_the_network() {
        let cache = Cache::new();
        let server = server(Answer::body(BODY));
        let url = server.url("/models/net.pth?raw=1");
        let mut seen = Vec::new();
        let resolved = cache.fetch_watched(&url, Some(SHA), &mut |done, total| seen.push((done, total))).unwrap();
        assert_eq!(resolved.sha256, SHA);
        assert_eq!(resolved.origin, url);
        assert_eq!(fs::read(&resolved.path).unwrap(), BODY);
        assert_eq!(cache.files(), [format!("{SHA}.pth")]);
        assert_eq!((seen.first(), seen.last()), (Some(&(0, Some(3))), Some(&(3, Some(3)))));
        drop(server);
        assert_eq!(cache.fetch(&url, Some(SHA)).unwrap(), resolved);
    }

    #[test]
    fn the_digits_in_a_file_name_are_enough() {
        let cache = Cache::new();
        let server = server(Answer::body(BODY));
        let resolved = cache.fetch(&server.url("/net-ba7816bf.pth"), None).unwrap();
        assert_eq!(resolved.sha256, SHA);
        cache.fetch(&server.url("/net-ba7816bf.pth"), None).unwrap();
        assert_eq!(server.requests().len(), 1);

        let error = cache.fetch(&server.url("/net-ba7816b0.pth"), None).unwrap_err().to_string();
        assert!(error.contains("ba7816b0") && error.contains(SHA) && error.contains("backbone.sha256"), "{error}");
        // The configured value goes before digits that only look like a hash.
        assert!(cache.fetch(&server.url("/net-20240101.pth"), Some(SHA)).is_ok());
    }

    #[test]
    fn without_a_sha256_nothing_is_requested() {
        let server = server(Answer::body(BODY));
        let error = Cache::new().fetch(&server.url("/net.pth"), None).unwrap_err();
        assert!(matches!(error, WeightSourceError::Unverified(_)), "{error}");
        assert!(server.requests().is_empty());
    }

    #[test]
    fn wrong_bytes_are_refused_and_removed() {
        let cache = Cache::new();
        let server = server(Answer::body(BODY));
        let url = server.url("/net.pth");
        let error = cache.fetch(&url, Some(OTHER)).unwrap_err().to_string();
        assert!([url.as_str(), SHA, OTHER].iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(server.requests().len(), 1);
        assert_eq!(cache.files(), [""; 0]);
    }

    #[test]
    fn an_interrupted_download_is_retried() {
        let cache = Cache::new();
        let server = TestServer::start(|_, before| Answer::body(BODY).lacking(if before < 2 { 1 } else { 0 }));
        assert_eq!(cache.fetch(&server.url("/net.pth"), Some(SHA)).unwrap().sha256, SHA);
        assert_eq!(server.requests().len(), 3);
        assert_eq!(cache.files().len(), 1);
    }

    #[test]
    fn a_download_that_always_fails_leaves_nothing() {
        let cache = Cache::new();
        let server = server(Answer::body(BODY).lacking(2));
        let url = server.url("/net.pth");
        let error = cache.fetch(&url, Some(SHA)).unwrap_err();
        assert!(matches!(error, WeightSourceError::Network { .. }) && error.to_string().contains(&url), "{error}");
        assert_eq!(server.requests().len(), 4);
        assert_eq!(cache.files(), [""; 0]);
    }

    #[test]
    fn transient_errors_are_retried() {
        for busy in [429, 500, 503] {
            let server =
                TestServer::start(move |_, before| if before == 0 { Answer::status(busy) } else { Answer::body(BODY) });
            assert_eq!(Cache::new().fetch(&server.url("/net.pth"), Some(SHA)).unwrap().sha256, SHA);
            assert_eq!(server.requests().len(), 2);
        }
        let server = server(Answer::status(503));
        let error = Cache::new().fetch(&server.url("/net.pth"), Some(SHA)).unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("later"), "{error}");
        assert_eq!(server.requests().len(), 4);
    }

    #[test]
    fn retry_after_is_honoured() {
        let server = TestServer::start(|_, before| match before {
            0 => Answer::status(429).header("Retry-After", "0"),
            1 => Answer::status(503).header("Retry-After", "86400"),
            _ => Answer::body(BODY),
        });
        let error = Cache::new().fetch(&server.url("/net.pth"), Some(SHA)).unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("in 86400 s"), "{error}");
        assert_eq!(server.requests().len(), 2, "nobody waits for a day");
    }

    #[test]
    fn a_refusal_is_final() {
        for status in [401, 403, 404, 410] {
            let server = server(Answer::status(status));
            let url = server.url("/net.pth");
            let error = Cache::new().fetch(&url, Some(SHA)).unwrap_err().to_string();
            assert!(error.contains(&url) && error.contains(&status.to_string()), "{error}");
            assert_eq!(server.requests().len(), 1);
        }
    }

    #[test]
    fn a_refused_connection_is_named() {
        let url = refused_url("/net.pth");
        let error = Cache::new().fetch(&url, Some(SHA)).unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
    }

    #[test]
    fn a_damaged_cached_file_is_replaced() {
        let cache = Cache::new();
        let server = server(Answer::body(BODY));
        let url = server.url("/net.pth");
        let path = cache.fetch(&url, Some(SHA)).unwrap().path;
        fs::write(&path, "abd").unwrap();
        assert_eq!(fs::read(cache.fetch(&url, Some(SHA)).unwrap().path).unwrap(), BODY);
        assert_eq!(server.requests().len(), 2);
    }

    #[test]
    fn a_cache_folder_that_cannot_be_used_is_named() {
        let cache = Cache::new();
        let folder = cache.0.path().join("explainer");
        fs::write(&folder, "a file, not a folder").unwrap();
        let error = cache.fetch(&refused_url("/net.pth"), Some(SHA)).unwrap_err().to_string();
        assert!(error.contains(folder.to_str().unwrap()), "{error}");
    }

    #[test]
    fn extensions() {
        for (url, expected) in [
            ("https://a.org/b.pth?x=.zip", ".pth"),
            ("https://a.org/b", ""),
            ("https://a.org/b.", ""),
            ("https://a.org/b.p-h", ""),
        ] {
            assert_eq!(extension(url), expected, "{url}");
        }
    }
}
