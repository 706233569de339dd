//! A miner that accepts every connection and never answers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Connections that are held open; the oldest one is dropped for a new one.
const MAX_HELD: usize = 256;
/// Pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Silent {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Silent {
    pub(super) async fn spawn(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(hold(listener)) })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn stop(self) {
        drop(self);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn hold(listener: TcpListener) {
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if held.len() >= MAX_HELD {
                    held.pop_front();
                }
                held.push_back(stream);
            }
            // Out of file descriptors, most likely: give some back.
            Err(error) => {
                tracing::debug!(%error, "silent peer cannot accept");
                held.clear();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
