//! A plain client, which sees the texts as they come.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::DEADLINE;

/// The body of a GET request as JSON, whatever the status is.
pub(crate) async fn get_json(rest_url: &str, path: &str) -> Value {
    let host = rest_url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(DEADLINE, read).await.expect("no answer").unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

pub(crate) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn connect(ws_url: &str, path: &str) -> Self {
        Self(connect_async(format!("{ws_url}{path}")).await.unwrap().0)
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(DEADLINE, self.0.next()).await.expect("nothing came")?.ok()
    }

    /// The next text that is JSON.
    pub(crate) async fn next_json(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(Frame::Text(text)) => return serde_json::from_str(&text).unwrap(),
                Some(Frame::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads texts until one is wanted, and returns it.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let value = self.next_json().await;
            if is_wanted(&value) {
                return value;
            }
        }
    }

    pub(crate) async fn send(&mut self, request: &Value) {
        self.0.send(Frame::text(request.to_string())).await.unwrap();
    }

    /// Sends without waiting for the network.
    pub(crate) async fn feed(&mut self, request: &Value) {
        self.0.feed(Frame::text(request.to_string())).await.unwrap();
    }

    pub(crate) async fn flush(&mut self) {
        self.0.flush().await.unwrap();
    }

    /// Reads until the connection is over; returns the number of pings and the goodbye.
    pub(crate) async fn end(&mut self) -> (usize, Option<String>) {
        let mut pings = 0;
        loop {
            match self.next().await {
                Some(Frame::Ping(_)) => pings += 1,
                Some(Frame::Close(frame)) => {
                    return (pings, frame.map(|one| one.reason.to_string()));
                }
                None => return (pings, None),
                Some(_) => {}
            }
        }
    }
}
