//! A local chat endpoint with OpenAI's interface, whose answers a test supplies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

/// Maps a request's number and question to an HTTP status and a content.
type Answer = dyn Fn(usize, &str) -> (u16, String) + Send + Sync;

/// What the server replaces in an answer by the key of the request, as a careless server would repeat it.
pub const ECHO: &str = "{key}";

/// A server that lives as long as the test program.
#[derive(Debug)]
pub struct Endpoint {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    /// Starts a server that answers request number `0`, `1`, … with `answer(number, question)`: a status and a text.
    pub fn new(answer: impl Fn(usize, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (asked, answer): (_, Box<Answer>) = (Arc::new(AtomicUsize::new(0)), Box::new(answer));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &count, &answer);
            }
        });
        Self { address, asked }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests it has answered so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Serves one request of a connection.
fn serve(mut stream: TcpStream, count: &AtomicUsize, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle can be copied"));
    let (mut line, mut length, mut key) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if let Some(value) = line.strip_prefix("authorization: Bearer ") {
            key = value.trim().to_owned();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("as long as it says");
    let request: Value = serde_json::from_slice(&body).expect("a request is JSON");
    let question = request["messages"][0]["content"].as_str().expect("a question").to_owned();
    assert_eq!(request["model"], "fake");
    let (status, content) = answer(count.fetch_add(1, Ordering::SeqCst), &question);
    let content = content.replace(ECHO, &key);
    let body = match status {
        200 => json!({"choices": [{"message": {"role": "assistant", "content": content}}]}),
        _ => json!({"error": {"message": content}}),
    }
    .to_string()
    // As PHP and others spell it.
    .replace('/', "\\/");
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("the client reads");
}
