//! Programs under test: started, asked for their first line, looked at in `/proc`, stopped.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// A program that is not ready by then is broken.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for an orderly end.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks; the error of a measured start.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    begun: Instant,
}

/// Resident memory of a process, MB (10⁶ bytes).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: f64,
    /// Greatest so far.
    pub(crate) peak: f64,
}

impl Running {
    /// Starts a program whose output is of no interest. Its standard error goes to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let errors = std::fs::File::options().create(true).append(true).open(log)?;
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::piped())
            .stdout(errors.try_clone()?)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", name_of(&command)))?;
        Ok(Self { child, begun })
    }

    /// Starts a program that says in its first line, JSON, where it is.
    pub(crate) async fn start_saying(mut command: Command) -> anyhow::Result<(Self, Value)> {
        let begun = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", name_of(&command)))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let line = tokio::time::timeout(START_LIMIT, lines.next_line())
            .await
            .context("waiting for the first line")??
            .context("ended without a line")?;
        // Some peers print a line a request; a full pipe would stop them.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let said = serde_json::from_str(&line).with_context(|| format!("reading {line}"))?;
        Ok((Self { child, begun }, said))
    }

    /// Returns the time from the start until `address` takes connections.
    pub(crate) async fn until_listening(
        &mut self,
        address: SocketAddr,
    ) -> anyhow::Result<Duration> {
        loop {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(self.begun.elapsed());
            }
            self.pause("listens").await?;
        }
    }

    /// Returns the time from the start until `/readyz` says yes.
    pub(crate) async fn until_ready(&mut self, http: SocketAddr) -> anyhow::Result<Duration> {
        loop {
            if get(http, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
                return Ok(self.begun.elapsed());
            }
            self.pause("is ready").await?;
        }
    }

    async fn pause(&mut self, what: &str) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("the program ended before it {what}: {status}");
        }
        anyhow::ensure!(self.begun.elapsed() < START_LIMIT, "waited too long until it {what}");
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the program has ended")
    }

    /// Reads the memory that the system counts for the process.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))
            .context("reading /proc, which only Linux has")?;
        let field = |name: &str| -> anyhow::Result<f64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("no field")?;
            let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Reads the CPU time of the process in user and system mode, seconds.
    pub(crate) async fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()?))
            .context("reading /proc, which only Linux has")?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let ticks = |index: usize| -> anyhow::Result<f64> {
            Ok(fields.split_whitespace().nth(index).context("short stat")?.parse()?)
        };
        let ticks = ticks(11)? + ticks(12)?;
        let a_second = Command::new("getconf").arg("CLK_TCK").output().await?.stdout;
        let a_second: f64 = std::str::from_utf8(&a_second)?.trim().parse()?;
        Ok(ticks / a_second)
    }

    /// Asks for an orderly end and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.id()?.to_string();
        Command::new("kill").args(["-TERM", &id]).status().await?;
        drop(self.child.stdin.take());
        tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.context("it does not stop")??;
        Ok(())
    }

    /// Ends it as a power failure would.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

fn name_of(command: &Command) -> String {
    command.as_std().get_program().display().to_string()
}

/// Returns an address on `ip` with a port that was free a moment ago.
pub(crate) async fn free_address(ip: [u8; 4]) -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(SocketAddr::from((ip, 0))).await?.local_addr()?)
}

/// Asks an HTTP server and returns status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(START_LIMIT, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("answer without a body")?;
    let status = head.split(' ').nth(1).context("answer without a status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Runs a program to its end and reads its only line of output as JSON.
pub(crate) async fn output_of(mut command: Command) -> anyhow::Result<Value> {
    let output = command.stderr(Stdio::inherit()).kill_on_drop(true).output().await?;
    let program = name_of(&command);
    anyhow::ensure!(output.status.success(), "{program} ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.trim()).with_context(|| format!("reading {text:?}"))
}
