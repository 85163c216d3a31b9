//! A small HTTP/1.1 server: one connection a request, check_failures in the order in which they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, `POST` or `PUT`.
    pub method: String,
    /// Path with query, as sent.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    lacking: usize,
    cut: bool,
}

impl Answer {
    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), lacking: 0, cut: false }
    }

    /// 200 with these bytes.
    #[must_use]
    pub fn body(body: &[u8]) -> Self {
        Self::status(200).with_body(body)
    }

    /// The same with these bytes.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Closes the connection this number of bytes before the end.
    #[must_use]
    pub fn lacking(self, lacking: usize) -> Self {
        Self { lacking, ..self }
    }

    /// Closes the connection without a word.
    #[must_use]
    pub fn cut() -> Self {
        Self { cut: true, ..Self::status(0) }
    }
}

/// Serves until it is dropped.
pub struct TestServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// `answer` gets each request and how many came before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        Self::listen("127.0.0.1:0", answer)
    }

    /// The same at an address of this machine.
    pub fn listen(address: &str, answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (requests, stop) = (Arc::clone(&requests), Arc::clone(&stop));
            move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    // A client may connect without asking, or leave before the answer.
                    let Some(request) = read_request(&stream) else { continue };
                    let before = requests.lock().unwrap().len();
                    requests.lock().unwrap().push(request.clone());
                    let _ = write_answer(&mut stream, &request, &answer(&request, before));
                }
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// An address where no server listens.
#[must_use]
pub fn refused_url(path: &str) -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{address}{path}")
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread up.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    if request.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let length = u64::from_str_radix(line(&mut reader)?.split(';').next()?.trim(), 16).ok()?;
            reader.by_ref().take(length).read_to_end(&mut request.body).ok()?;
            line(&mut reader)?;
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length").and_then(|length| length.parse().ok()) {
        reader.take(length).read_to_end(&mut request.body).ok()?;
    }
    Some(request)
}

/// A line without its end; `None` where the client has left.
fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let count = reader.read_line(&mut line).ok()?;
    (count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

fn write_answer(stream: &mut TcpStream, request: &Request, answer: &Answer) -> std::io::Result<()> {
    if answer.cut {
        return Ok(());
    }
    let length = answer.body.len();
    let mut head = format!("HTTP/1.1 {} Test\r\nContent-Length: {length}\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&answer.body[..length - answer.lacking])?;
    }
    stream.flush()
}
