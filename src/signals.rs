//! All signals of the process as values of one stream.
//!
//! One task owns them; nothing else installs handlers. Signals that come while another one is
//! handled wait; several SIGHUPs in a row become one.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: stop; the second one at once.
    Stop,
    /// SIGHUP: validate the configuration and restart the actor tree.
    Restart,
    /// SIGUSR1: open the log files anew.
    ReopenLogs,
    /// SIGQUIT: write the state to the log.
    Dump,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    quit: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits until the process is asked to stop; what else is asked for is passed over.
    pub async fn stop(&mut self) {
        while self.next().await != Request::Stop {}
    }

    /// Waits for the next one. May be dropped half-way; nothing is lost.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Restart,
            _ = self.user1.recv() => Request::ReopenLogs,
            _ = self.quit.recv() => Request::Dump,
        }
    }
}
