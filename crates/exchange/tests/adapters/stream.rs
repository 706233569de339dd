//! The exchange's end of a WebSocket, spoken by the test itself.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::DEADLINE;

pub(crate) struct StreamServer {
    pub(crate) url: String,
    listener: TcpListener,
}

impl StreamServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Self { url, listener }
    }

    /// Waits for the feed to connect.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(DEADLINE, self.listener.accept()).await.unwrap().unwrap();
        let mut path = String::new();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let note = |request: &Request, response: Response| {
            request.uri().path().clone_into(&mut path);
            Ok(response)
        };
        let socket = timeout(DEADLINE, accept_hdr_async(stream, note)).await.unwrap().unwrap();
        Peer { socket, path }
    }
}

/// One connection of the feed.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// The path that the feed asked for.
    pub(crate) path: String,
}

impl Peer {
    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Frame::text(text.into())).await.unwrap();
    }

    /// The next text that the feed sends.
    pub(crate) async fn read(&mut self) -> String {
        let frame = timeout(DEADLINE, self.socket.next()).await.expect("the feed sends nothing");
        frame.unwrap().unwrap().into_text().unwrap().to_string()
    }
}
