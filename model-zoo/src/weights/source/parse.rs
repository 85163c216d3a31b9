//! The text form of a source, and its parser.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

use super::{HubFile, WeightSource, WeightSourceError};

/// The file of `hf://owner/name` without one.
const DEFAULT_HUB_FILE: &str = "model.safetensors";

impl FromStr for WeightSource {
    type Err = WeightSourceError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let parsed = match given.split_once("://") {
            Some(("hf", rest)) => HubFile::parse(rest).map(Self::Hub),
            Some(("https" | "http", _)) => check_address(given).map(|()| Self::Https(given.to_owned())),
            Some((scheme, _)) => Err(format!("`{scheme}://` is not supported")),
            None => match given.split_once(':') {
                Some(("random", seed)) => match seed.parse() {
                    Ok(seed) => Ok(Self::Random { seed }),
                    Err(_) => Err(format!("the seed `{seed}` is no whole number from 0 to {}", u64::MAX)),
                },
                None if given == "random" => Ok(Self::Random { seed: 0 }),
                None if given == "embedded" => Ok(Self::Embedded),
                None if given.is_empty() => Err("it is empty".to_owned()),
                _ => Ok(Self::File(PathBuf::from(given))),
            },
        };
        parsed.map_err(|reason| WeightSourceError::Syntax { given: given.to_owned(), reason })
    }
}

fn check_address(given: &str) -> Result<(), String> {
    let url = Url::parse(given).map_err(|error| error.to_string())?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("`http://` is not protected on its way and only for this machine; use `https://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The address is stored in artifacts and messages.
        return Err("an address with a user name or password would publish them".to_owned());
    }
    Ok(())
}

impl HubFile {
    /// Parses `owner/name[@revision][/file]`. A `/` in a revision is written `%2F`, but not in the Hub's own `refs/pr/N` and
    /// `refs/convert/NAME`.
    fn parse(given: &str) -> Result<Self, String> {
        let (owner, rest) = given.split_once('/').ok_or("it lacks the `/` between owner and name")?;
        let own = rest.find('@').filter(|at| is_hub_ref(&rest[at + 1..]));
        // The `/` before the file: the first one, or the third one behind `refs`.
        let slash = match own {
            Some(at) => rest.match_indices('/').filter(|(place, _)| *place > at).nth(2).map(|(place, _)| place),
            None => rest.find('/'),
        };
        let (repository, file) = slash.map_or((rest, DEFAULT_HUB_FILE), |slash| (&rest[..slash], &rest[slash + 1..]));
        let (name, revision) = match repository.split_once('@') {
            Some((name, revision)) if own.is_some() => (name, Some(revision.to_owned())),
            Some((name, revision)) => {
                (name, Some(revision.replace("%2F", "/").replace("%2f", "/").replace("%25", "%")))
            }
            None => (repository, None),
        };
        for (what, part) in [("owner", owner), ("name", name)] {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !is_plain_path(part) || !part.chars().all(allowed) {
                return Err(format!("`{part}` cannot be the {what} of a repository"));
            }
        }
        // Both are paths inside the cache folder.
        if let Some(revision) = revision.as_deref().filter(|revision| !is_plain_path(revision)) {
            return Err(format!("`{revision}` cannot be a revision"));
        }
        if !is_plain_path(file) {
            return Err(format!("`{file}` cannot be a file of a repository"));
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision, file: file.to_owned() })
    }
}

/// Whether a revision is one of the Hub's own references.
fn is_hub_ref(revision: &str) -> bool {
    revision.starts_with("refs/pr/") || revision.starts_with("refs/convert/")
}

/// Whether every part of a path is a name: none empty, `.` or `..`.
fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}/{}", self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.replace('%', "%25").replace('/', "%2F"))?;
        }
        write!(f, "/{}", self.file)
    }
}

impl fmt::Display for WeightSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Hub(file) => file.fmt(f),
            Self::Https(url) => f.write_str(url),
            Self::Embedded => f.write_str("embedded"),
            Self::Random { seed } => write!(f, "random:{seed}"),
        }
    }
}

/// The last segment of an address's path.
pub(super) fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether an address is on this machine, where `http://` is allowed.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(given: &str) -> WeightSource {
        given.parse().unwrap()
    }

    fn hub(revision: Option<&str>, file: &str) -> WeightSource {
        let text = str::to_owned;
        WeightSource::Hub(HubFile {
            owner: text("timm"),
            name: text("vit_small.in1k"),
            revision: revision.map(text),
            file: text(file),
        })
    }

    #[test]
    fn every_form_is_parsed() {
        assert_eq!(parsed("weights/vgg16.pth"), WeightSource::File("weights/vgg16.pth".into()));
        assert_eq!(parsed("./random"), WeightSource::File("./random".into()));
        assert_eq!(parsed("C:/weights/vgg16.pth"), WeightSource::File("C:/weights/vgg16.pth".into()));
        assert_eq!(parsed("hf://timm/vit_small.in1k"), hub(None, "model.safetensors"));
        assert_eq!(parsed("hf://timm/vit_small.in1k@v2"), hub(Some("v2"), "model.safetensors"));
        assert_eq!(parsed("hf://timm/vit_small.in1k/a/b.pth"), hub(None, "a/b.pth"));
        for slash in ["%2F", "%2f", "/"] {
            let revision = ["refs", "pr", "1"].join(slash);
            assert_eq!(parsed(&format!("hf://timm/vit_small.in1k@{revision}/b.pth")), hub(Some("refs/pr/1"), "b.pth"));
            let whole = parsed(&format!("hf://timm/vit_small.in1k@{revision}"));
            assert_eq!(whole, hub(Some("refs/pr/1"), "model.safetensors"));
        }
        let address = "https://download.pytorch.org/models/vit_b_16-c867db91.pth";
        assert_eq!(parsed(address), WeightSource::Https(address.to_owned()));
        assert_eq!(parsed("embedded"), WeightSource::Embedded);
        assert_eq!(parsed("random"), WeightSource::Random { seed: 0 });
        assert_eq!(parsed("random:17"), WeightSource::Random { seed: 17 });
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for host in ["127.0.0.1:80", "localhost:9", "[::1]:8080", "127.9.9.9"] {
            assert!(format!("http://{host}/a.pth").parse::<WeightSource>().is_ok(), "{host}");
        }
        for host in ["example.org", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "[::2]"] {
            let error = format!("http://{host}/a.pth").parse::<WeightSource>().unwrap_err().to_string();
            assert!(error.contains("https://"), "{error}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_known_forms() {
        let cases = [
            ("", "empty"),
            ("ftp://example.org/a.pth", "`ftp://` is not supported"),
            ("hf://timm", "between owner and name"),
            ("hf:///name", "owner"),
            ("hf://owner/", "name"),
            ("hf://owner/..", "name"),
            ("hf://owner/na me", "name"),
            ("hf://owner/name@", "revision"),
            ("hf://owner/name@..%2F..%2Fx", "revision"),
            ("hf://owner/name@refs/pr/", "revision"),
            ("hf://owner/name@refs/pr/..", "revision"),
            ("hf://owner/name/", "file"),
            ("hf://owner/name/../../x", "file"),
            ("https://", "host"),
            ("https://ada:secret@example.org/a.pth", "publish"),
            ("random:", "seed"),
            ("random:-1", "seed"),
            ("random:seven", "seed"),
        ];
        for (given, reason) in cases {
            let error = given.parse::<WeightSource>().unwrap_err().to_string();
            assert!(error.contains(reason), "{given}: {error}");
            assert!(error.contains("hf://owner/name[@revision][/file]") && error.contains("random[:SEED]"), "{error}");
        }
    }

    fn any_source() -> impl Strategy<Value = WeightSource> {
        let part = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}";
        let revision = prop::option::of("[A-Za-z0-9_%@-]{1,6}(/[A-Za-z0-9_%-]{1,6}){0,2}");
        let file = "[A-Za-z0-9_@% -]{1,8}(/[A-Za-z0-9_@%-]{1,8}){0,2}";
        prop_oneof![
            "[a-z/]{1,8}\\.(safetensors|pth|pt)".prop_map(|path| WeightSource::File(path.into())),
            (part, part, revision, file).prop_map(|(owner, name, revision, file)| WeightSource::Hub(HubFile {
                owner,
                name,
                revision,
                file
            })),
            "https://[a-z]{1,8}\\.org(:[1-9][0-9]{0,3})?/[a-z0-9/._-]{0,12}(\\?[a-z=&]{0,6})?"
                .prop_map(WeightSource::Https),
            Just(WeightSource::Embedded),
            any::<u64>().prop_map(|seed| WeightSource::Random { seed }),
        ]
    }

    proptest! {
        #[test]
        fn a_source_is_written_as_it_is_parsed(source in any_source()) {
            prop_assert_eq!(parsed(&source.to_string()), source);
        }

        #[test]
        fn every_parsed_text_is_written_as_it_is_parsed(text in "(hf://|https://|random:|)[ -~é]{0,24}") {
            if let Ok(source) = text.parse::<WeightSource>() {
                prop_assert_eq!(parsed(&source.to_string()), source);
            }
        }
    }
}
