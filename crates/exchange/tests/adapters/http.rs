//! A small HTTP server.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that answers every connection with the same bytes. Ends with the test's runtime.
pub(crate) async fn server(answer: Vec<u8>) -> (String, JoinHandle<()>) {
    let server = HttpServer::start(move |_| answer.clone()).await;
    (server.url, server.task)
}

/// A server that answers each request by its target and notes the targets.
pub(crate) struct HttpServer {
    pub(crate) url: String,
    pub(crate) task: JoinHandle<()>,
    targets: Arc<Mutex<Vec<String>>>,
}

impl HttpServer {
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let targets = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&targets);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // The whole head is read before the answer: closing with bytes unread would reset the
                // connection and lose the answer on its way.
                let (mut head, mut part) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut part).await {
                        Ok(count) if count > 0 => head.extend_from_slice(&part[..count]),
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&head);
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let bytes = answer(&target);
                noted.lock().unwrap().push(target);
                // The client may hang up in the middle of a body that is too long.
                let _sent = stream.write_all(&bytes).await;
            }
        });
        Self { url, task, targets }
    }

    /// The targets that were asked for, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

/// The value of a parameter in a target.
pub(crate) fn parameter<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

pub(crate) fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    http("200 OK", "", body)
}
