//! The Hub's routes for publishing and downloading a model.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::{Answer, Request};
use crate::repository::{File, Repository, Tree, is_large, sha256};
use crate::{Fault, READ_TOKEN, State, TOKEN};

/// The default owner of a repository.
const USER: &str = "ada";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Stranger,
    Reader,
    Writer,
}

/// A path, taken apart.
struct Route<'a> {
    method: &'a str,
    parts: Vec<String>,
    query: &'a str,
}

impl State {
    /// Answers, or fails as planned.
    pub(crate) fn serve(&mut self, request: &Request) -> Answer {
        let planned = |planned: &&mut crate::Planned| {
            planned.times > 0 && planned.method == request.method && request.path.contains(planned.path)
        };
        let fault = self.faults.iter_mut().find(planned).map(|planned| {
            planned.times -= 1;
            planned.fault.clone()
        });
        match fault {
            None => self.vjp(request),
            Some(Fault::Answer(answer)) => answer,
            Some(Fault::AnswerAfter(answer)) => {
                self.vjp(request);
                answer
            }
            Some(Fault::Overtaken) => {
                self.overtake();
                self.vjp(request)
            }
            Some(Fault::OvertakenAfter(answer)) => {
                self.vjp(request);
                self.overtake();
                answer
            }
            Some(Fault::Altered(from, to)) => {
                let body = String::from_utf8_lossy(&request.body).replace(&from, &to).into_bytes();
                self.vjp(&Request { body, ..request.clone() })
            }
        }
    }

    /// Somebody else's commit in every repository.
    fn overtake(&mut self) {
        for repository in self.repositories.values_mut() {
            let head = repository.resolve("main").unwrap_or_default();
            let mut tree = repository.files(&head).cloned().unwrap_or_default();
            tree.insert("NOTES.md".to_owned(), File::new("NOTES.md", b"not yours".to_vec()));
            repository.commit("main", "a commit of somebody else", tree);
        }
    }

    fn vjp(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<String> = path.split('/').skip(1).map(decoded).collect();
        let route = Route { method: &request.method, parts, query };
        let caller = match request.header("authorization") {
            None => Caller::Stranger,
            Some(value) if value == format!("Bearer {TOKEN}") => Caller::Writer,
            Some(value) if value == format!("Bearer {READ_TOKEN}") => Caller::Reader,
            Some(_) => return refusal(401, "", "Invalid username or password."),
        };
        let parts: Vec<&str> = route.parts.iter().map(String::as_str).collect();
        let base = format!("http://{}", request.header("host").unwrap_or_default());
        match (route.method, &parts[..]) {
            ("GET", ["api", "whoami-v2"]) if caller != Caller::Stranger => {
                data(&json!({"type": "user", "name": USER, "fullname": USER, "orgs": []}))
            }
            ("POST", ["api", "validate-yaml"]) => data(&json!({"errors": [], "warnings": []})),
            ("POST", ["api", "repos", "create"]) => self.create(caller, &base, &request.body),
            ("PUT", ["lfs-upload", oid]) => self.upload(oid, &request.body),
            ("POST", ["lfs-verify"]) => data(&json!({})),
            (_, ["cdn", _]) if caller != Caller::Stranger => {
                refusal(400, "", "the token is none of the storage's business")
            }
            ("GET" | "HEAD", ["cdn", oid]) => match self.objects.get(*oid) {
                Some(object) => Answer::body(object).header("ETag", &format!("\"{oid}\"")),
                None => refusal(404, "", "no such object"),
            },
            (_, ["api", "models", owner, name, rest @ ..]) => {
                self.model(&route, caller, &format!("{owner}/{name}"), rest, &base, &request.body)
            }
            ("POST", [owner, git, "info", "lfs", "objects", "batch"]) => {
                let name = git.trim_end_matches(".git");
                match self.open(caller, &format!("{owner}/{name}"), true) {
                    Err(answer) => answer,
                    Ok(_) => self.batch(&base, &request.body),
                }
            }
            ("GET" | "HEAD", [owner, name, "resolve", revision, file @ ..]) => {
                self.resolve(caller, &format!("{owner}/{name}"), revision, &file.join("/"), &base)
            }
            _ => refusal(404, "", "no such route"),
        }
    }

    /// A repository that the caller may read, or write to.
    fn open(&mut self, caller: Caller, id: &str, write: bool) -> Result<&mut Repository, Answer> {
        let hidden = |repository: &&mut Repository| !repository.private || caller != Caller::Stranger;
        match self.repositories.get_mut(id).filter(hidden) {
            None if caller == Caller::Stranger => Err(refusal(401, "RepoNotFound", "Invalid username or password.")),
            None => Err(refusal(404, "RepoNotFound", "Repository not found")),
            Some(_) if write && caller == Caller::Stranger => Err(refusal(401, "", "Invalid username or password.")),
            Some(_) if write && caller == Caller::Reader => {
                Err(refusal(403, "", "You don't have the rights to push to this repository"))
            }
            Some(found) => Ok(found),
        }
    }

    fn create(&mut self, caller: Caller, base: &str, body: &[u8]) -> Answer {
        match caller {
            Caller::Stranger => return refusal(401, "", "Invalid username or password."),
            Caller::Reader => return refusal(403, "", "You don't have the rights to create a model here"),
            Caller::Writer => {}
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let owner = body["organization"].as_str().unwrap_or(USER);
        let id = format!("{owner}/{}", body["name"].as_str().unwrap_or_default());
        let url = format!("{base}/{id}");
        if self.repositories.contains_key(&id) {
            let body = json!({"error": "You already created this model repo", "url": url});
            return data(&body).with_status(409);
        }
        let private = body["private"] == true || body["visibility"] == "private";
        self.repositories.insert(id.clone(), Repository::new(private));
        data(&json!({"url": url, "name": id, "id": id}))
    }

    fn model(&mut self, route: &Route<'_>, caller: Caller, id: &str, rest: &[&str], base: &str, body: &[u8]) -> Answer {
        let write = matches!(rest, ["preupload" | "commit" | "branch", ..]);
        let objects = self.objects.clone();
        let repository = match self.open(caller, id, write) {
            Ok(repository) => repository,
            Err(answer) => return answer,
        };
        let revision = rest.get(1).copied().unwrap_or("main");
        if let ("POST", ["branch", name]) = (route.method, rest) {
            return branch(repository, name, body);
        }
        let Some(head) = repository.resolve(revision) else {
            return refusal(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"));
        };
        let tree = repository.files(&head).cloned().unwrap_or_default();
        match (route.method, rest) {
            ("GET", [] | ["revision", _]) => {
                let siblings: Vec<Value> = tree.keys().map(|path| json!({"rfilename": path})).collect();
                data(&json!({
                    "_id": "1", "id": id, "modelId": id, "author": id.split('/').next(), "sha": head,
                    "private": repository.private, "gated": false, "disabled": false, "downloads": 0, "likes": 0,
                    "tags": [], "siblings": siblings,
                }))
            }
            ("GET", ["tree", _, folder @ ..]) => listed(&tree, &folder.join("/"), route.query.contains("recursive")),
            ("POST", ["paths-info", _]) => {
                let asked = asked_paths(body);
                data(&asked.iter().filter_map(|path| tree.get(path).map(|file| entry(path, file))).collect())
            }
            ("POST", ["preupload", _]) => preupload(&tree, body),
            ("POST", ["commit", _]) => {
                let pull = route.query.contains("create_pr=1");
                let url = format!("{base}/{id}");
                commit(repository, revision, &head, tree, &objects, body, pull, &url)
            }
            _ => refusal(404, "", "no such route"),
        }
    }

    fn batch(&self, base: &str, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let objects = body["objects"].as_array().cloned().unwrap_or_default();
        let objects = objects.into_iter().map(|object| {
            let oid = object["oid"].as_str().unwrap_or_default().to_owned();
            let mut answer = json!({"oid": oid, "size": object["size"], "authenticated": true});
            if !self.objects.contains_key(&oid) {
                answer["actions"] = json!({
                    "upload": {"href": format!("{base}/lfs-upload/{oid}")},
                    "verify": {"href": format!("{base}/lfs-verify")},
                });
            }
            answer
        });
        data(&json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()}))
    }

    fn upload(&mut self, oid: &str, body: &[u8]) -> Answer {
        if sha256(body) != oid {
            return refusal(400, "", "the SHA-256 is another one");
        }
        self.objects.insert(oid.to_owned(), body.to_vec());
        Answer::status(200)
    }

    fn resolve(&mut self, caller: Caller, id: &str, revision: &str, path: &str, base: &str) -> Answer {
        let found = match self.open(caller, id, false) {
            Err(answer) => return answer,
            Ok(found) => found,
        };
        let Some(head) = found.resolve(revision) else {
            return refusal(404, "RevisionNotFound", &format!("Invalid rev id: {revision}"));
        };
        let Some(file) = found.files(&head).and_then(|tree| tree.get(path)).cloned() else {
            return refusal(404, "EntryNotFound", "Entry not found").header("X-Repo-Commit", &head);
        };
        let tag = format!("\"{}\"", file.tag());
        if !file.large {
            return Answer::body(&file.content).header("ETag", &tag).header("X-Repo-Commit", &head);
        }
        // Another host, as the Hub's storage is one.
        let storage = base.replace("127.0.0.1", "localhost");
        let (place, size) = (format!("{storage}/cdn/{}", file.tag()), file.content.len().to_string());
        self.objects.insert(file.tag(), file.content);
        Answer::status(302)
            .header("Location", &place)
            .header("X-Linked-ETag", &tag)
            .header("X-Linked-Size", &size)
            .header("X-Repo-Commit", &head)
    }
}

fn data(value: &Value) -> Answer {
    Answer::body(value.to_string().as_bytes()).header("Content-Type", "application/json")
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let answer = data(&json!({"error": message})).with_status(status).header("X-Error-Message", message);
    if code.is_empty() { answer } else { answer.header("X-Error-Code", code) }
}

/// Decodes `%xx`.
fn decoded(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = (*first == b'%').then(|| tail.get(..2).and_then(|two| std::str::from_utf8(two).ok())).flatten();
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn entry(path: &str, file: &File) -> Value {
    let mut entry = json!({"type": "file", "oid": file.oid(), "size": file.content.len(), "path": path});
    if file.large {
        let pointer = file.pointer().len();
        entry["lfs"] = json!({"oid": sha256(&file.content), "size": file.content.len(), "pointerSize": pointer});
    }
    entry
}

/// The files of a folder and, unless everything below is wanted, its folders.
fn listed(tree: &Tree, folder: &str, recursive: bool) -> Answer {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut entries: Vec<Value> = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for (path, file) in tree {
        let Some(below) = path.strip_prefix(&prefix) else { continue };
        if let Some((inner, _)) = below.split_once('/') {
            let inner = format!("{prefix}{inner}");
            if !folders.contains(&inner) {
                entries.push(
                    json!({"type": "directory", "oid": sha256(inner.as_bytes())[..40], "size": 0, "path": inner}),
                );
                folders.push(inner);
            }
            if !recursive {
                continue;
            }
        }
        entries.push(entry(path, file));
    }
    data(&entries.into())
}

/// The paths of a request, as JSON or as a form: the two clients differ.
fn asked_paths(body: &[u8]) -> Vec<String> {
    match serde_json::from_slice::<Value>(body) {
        Ok(body) => {
            let paths = body["paths"].as_array().cloned().unwrap_or_default();
            paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
        }
        Err(_) => {
            let form = String::from_utf8_lossy(body).into_owned();
            form.split('&').filter_map(|pair| pair.strip_prefix("paths=")).map(decoded).collect()
        }
    }
}

fn preupload(tree: &Tree, body: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let files = body["files"].as_array().cloned().unwrap_or_default();
    let files = files.iter().filter_map(|file| file["path"].as_str()).map(|path| {
        let mode = if is_large(path) { "lfs" } else { "regular" };
        json!({"path": path, "uploadMode": mode, "shouldIgnore": false, "oid": tree.get(path).map(File::tag)})
    });
    data(&json!({"files": files.collect::<Vec<_>>()}))
}

fn branch(repository: &mut Repository, name: &str, body: &[u8]) -> Answer {
    if repository.has_branch(name) {
        return refusal(409, "", &format!("Reference {name} already exists"));
    }
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match repository.resolve(body["startingPoint"].as_str().unwrap_or("main")) {
        Some(commit) => {
            repository.branch(name, commit);
            data(&json!({}))
        }
        None => refusal(404, "RevisionNotFound", "no such starting point"),
    }
}

#[allow(clippy::too_many_arguments, reason = "a request has that many parts")]
fn commit(
    repository: &mut Repository,
    revision: &str,
    head: &str,
    mut tree: Tree,
    objects: &std::collections::BTreeMap<String, Vec<u8>>,
    body: &[u8],
    pull: bool,
    url: &str,
) -> Answer {
    let mut title = String::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return refusal(400, "", "no line of JSON") };
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        match line["key"].as_str() {
            Some("header") => {
                title = value["summary"].as_str().unwrap_or_default().to_owned();
                if value["parentCommit"].as_str().is_some_and(|parent| parent != head) {
                    return refusal(412, "", "A commit has happened since. Please refresh and try again.");
                }
            }
            Some("file") => match STANDARD.decode(value["content"].as_str().unwrap_or_default()) {
                Ok(content) => {
                    tree.insert(path.clone(), File::new(&path, content));
                }
                Err(_) => return refusal(400, "", "no base64"),
            },
            Some("lfsFile") => match objects.get(value["oid"].as_str().unwrap_or_default()) {
                Some(content) => {
                    tree.insert(path.clone(), File { content: content.clone(), large: true });
                }
                None => return refusal(400, "", "LFS pointer pointed to a file that does not exist"),
            },
            Some("deletedFile") => {
                tree.remove(&path);
            }
            _ => return refusal(400, "", "unknown operation"),
        }
    }
    let branch = if pull {
        repository.pulls += 1;
        let branch = format!("refs/pr/{}", repository.pulls);
        repository.branch(&branch, head.to_owned());
        branch
    } else if repository.has_branch(revision) {
        revision.to_owned()
    } else {
        return refusal(404, "RevisionNotFound", "no such branch");
    };
    let oid = repository.commit(&branch, &title, tree);
    let mut answer = json!({
        "success": true, "commitOid": oid, "commitUrl": format!("{url}/commit/{oid}"), "hookOutput": "",
    });
    if pull {
        answer["pullRequestUrl"] = json!(format!("{url}/discussions/{}", repository.pulls));
    }
    data(&answer)
}
