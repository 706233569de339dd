//! Forecasts on threads of their own: bounded queue, deadlines, contained panics.
//!
//! A forecast takes milliseconds of pure computing, too long for an event loop and too short for a
//! process. Each worker owns one instance of the model; a full queue sheds with a typed error; a job
//! whose caller has gone is not run; a panic costs its own job only, and the worker builds a fresh
//! instance. A model that never returns keeps its worker: threads cannot be cancelled, so its
//! callers get [`PoolError::Deadline`] and `stats().running` shows it.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::error::ModelError;
use crate::input::{Forecaster, ModelInput, check_output};

/// Builds one instance of the model; called once a worker and after each panic.
pub type ModelFactory = Arc<dyn Fn() -> Result<Box<dyn Forecaster>, ModelError> + Send + Sync>;

/// Size of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Threads, each with an instance of the model; 1..=64.
    pub workers: usize,
    /// Jobs that may wait beside the running ones; 1..=65536.
    pub queue: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { workers: 1, queue: 16 }
    }
}

/// Why a forecast was not given.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The queue is full; try again after a forecast's time.
    #[error("model queue is full at {queue} jobs, ask again later")]
    Busy {
        /// The configured length.
        queue: usize,
    },
    /// The forecast did not come in time.
    #[error("no forecast within {deadline:?}")]
    Deadline {
        /// The time that was allowed.
        deadline: Duration,
    },
    /// The model panicked on this input; it has been rebuilt.
    #[error("model panicked: {message}")]
    Panicked {
        /// The panic's message, shortened.
        message: String,
    },
    /// The model refused the input or gave a bad answer.
    #[error("model gave no forecast")]
    Model(#[from] ModelError),
    /// The pool has been stopped.
    #[error("model pool is stopped")]
    Closed,
}

impl PoolError {
    /// Tells whether the same request may succeed when repeated later.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Deadline { .. } | Self::Panicked { .. } => true,
            Self::Model(error) => error.is_retryable(),
            Self::Closed => false,
        }
    }

    /// Tells whether the pool must be replaced.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// Why a pool does not start.
#[derive(Debug, thiserror::Error)]
pub enum PoolStartError {
    /// A number of the configuration is out of range.
    #[error("pool key `{key}` is {value}, must be {range}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        range: &'static str,
    },
    /// The model cannot be built.
    #[error("model cannot be built for the pool")]
    Model(#[from] ModelError),
    /// The system gives no thread.
    #[error("cannot start a model thread")]
    Thread(#[from] std::io::Error),
}

/// Counters since the start and the present load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Threads of the pool.
    pub workers: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Forecasts given.
    pub completed: u64,
    /// Jobs that the model refused.
    pub failed: u64,
    /// Jobs that ended in a panic.
    pub panicked: u64,
    /// Jobs refused because the queue was full.
    pub shed: u64,
    /// Jobs whose deadline passed, queued or running.
    pub expired: u64,
    /// Instances of the model built after a panic.
    pub rebuilt: u64,
}

/// Threads that answer forecasts. Dropping it closes the queue without waiting; [`Self::stop`]
/// waits.
pub struct ModelPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    config: PoolConfig,
}

type Answer = Result<Vec<f64>, PoolError>;

struct Job {
    input: ModelInput,
    reply: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    running: AtomicUsize,
    completed: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    shed: AtomicU64,
    expired: AtomicU64,
    rebuilt: AtomicU64,
}

impl ModelPool {
    /// Builds one model a worker and starts the threads.
    ///
    /// # Errors
    /// [`PoolStartError`]; no thread is left behind.
    #[expect(clippy::needless_pass_by_value, reason = "the pool owns its factory")]
    pub fn spawn(config: PoolConfig, factory: ModelFactory) -> Result<Self, PoolStartError> {
        let bounded = [
            ("workers", config.workers, 1..=64, "1..=64"),
            ("queue", config.queue, 1..=65_536, "1..=65536"),
        ];
        for (key, value, allowed, range) in bounded {
            if !allowed.contains(&value) {
                return Err(PoolStartError::Config { key, value, range });
            }
        }
        let models =
            (0..config.workers).map(|_| factory()).collect::<Result<Vec<_>, ModelError>>()?;
        let shared = Arc::new(Shared::default());
        // Dropping the pool on an early return closes the queue, which ends the threads.
        let mut pool = Self { shared, threads: Vec::with_capacity(config.workers), config };
        for (index, model) in models.into_iter().enumerate() {
            let worker = Worker {
                shared: Arc::clone(&pool.shared),
                factory: Arc::clone(&factory),
                model: Some(model),
            };
            let builder = thread::Builder::new().name(format!("forecast-{index}"));
            pool.threads.push(builder.spawn(move || worker.run())?);
        }
        Ok(pool)
    }

    /// Returns the forecast for `input`: finite, above zero, of the asked length.
    ///
    /// Waiting in the queue counts against `deadline`. May be dropped at any time: a queued job is
    /// then skipped, a running one finishes unheard. Needs a tokio runtime with timers.
    ///
    /// # Errors
    /// [`PoolError`].
    pub async fn forecast(&self, input: ModelInput, deadline: Duration) -> Answer {
        let receiver = self.enqueue(input)?;
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PoolError::Closed),
            Err(_) => {
                self.shared.expired.fetch_add(1, Ordering::Relaxed);
                Err(PoolError::Deadline { deadline })
            }
        }
    }

    /// Returns the counters and the present load.
    pub fn stats(&self) -> PoolStats {
        let shared = &self.shared;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolStats {
            workers: self.config.workers,
            queued: shared.lock().jobs.len(),
            running: shared.running.load(Ordering::Relaxed),
            completed: load(&shared.completed),
            failed: load(&shared.failed),
            panicked: load(&shared.panicked),
            shed: load(&shared.shed),
            expired: load(&shared.expired),
            rebuilt: load(&shared.rebuilt),
        }
    }

    /// Refuses new jobs, answers the queued ones [`PoolError::Closed`] and waits for the running
    /// ones. Blocks: call it from a thread that may.
    pub fn stop(mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("model thread ended by a panic outside of a forecast");
            }
        }
    }

    fn enqueue(&self, input: ModelInput) -> Result<oneshot::Receiver<Answer>, PoolError> {
        let (reply, receiver) = oneshot::channel();
        let mut queue = self.shared.lock();
        if queue.closed {
            return Err(PoolError::Closed);
        }
        if queue.jobs.len() >= self.config.queue {
            // Callers that have gone must not keep out those who wait.
            queue.jobs.retain(|job| !job.reply.is_closed());
        }
        if queue.jobs.len() >= self.config.queue {
            drop(queue);
            self.shared.shed.fetch_add(1, Ordering::Relaxed);
            return Err(PoolError::Busy { queue: self.config.queue });
        }
        queue.jobs.push_back(Job { input, reply });
        drop(queue);
        self.shared.work.notify_one();
        Ok(receiver)
    }
}

impl Drop for ModelPool {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for ModelPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    /// No code that can panic runs under the lock, so a poisoned queue is still whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        let waiting = std::mem::take(&mut queue.jobs);
        drop(queue);
        self.work.notify_all();
        // Dropping a job drops its reply, which its caller reads as closed.
        drop(waiting);
    }

    /// Waits for a job; none when the pool is closed.
    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                if job.reply.is_closed() {
                    continue;
                }
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One thread's side of the pool.
struct Worker {
    shared: Arc<Shared>,
    factory: ModelFactory,
    /// Absent after a panic until it is rebuilt.
    model: Option<Box<dyn Forecaster>>,
}

impl Worker {
    fn run(mut self) {
        while let Some(Job { input, reply }) = self.shared.next_job() {
            self.shared.running.fetch_add(1, Ordering::Relaxed);
            let answer = self.answer(&input);
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
            let counter = match &answer {
                Ok(_) => &self.shared.completed,
                Err(PoolError::Panicked { .. }) => &self.shared.panicked,
                Err(_) => &self.shared.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if reply.send(answer).is_err() {
                debug!(start_ms = input.start_ms, "forecast finished after its caller had gone");
            }
            if self.model.is_none()
                && let Err(error) = self.rebuild()
            {
                warn!(%error, "model cannot be rebuilt after a panic, trying again at the next job");
            }
        }
    }

    fn answer(&mut self, input: &ModelInput) -> Answer {
        let mut model = if let Some(model) = self.model.take() {
            model
        } else {
            self.rebuild()?;
            self.model.take().ok_or(PoolError::Closed)?
        };
        let run = || -> Answer {
            let closes = model.forecast(input)?;
            check_output(model.name(), &closes, input.horizon)?;
            Ok(closes)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(answer) => {
                self.model = Some(model);
                answer
            }
            Err(payload) => {
                let message = panic_message(payload.as_ref());
                warn!(start_ms = input.start_ms, %message, "model panicked, rebuilding it");
                // The broken instance may panic again while it is dropped.
                if catch_unwind(AssertUnwindSafe(move || drop(model))).is_err() {
                    warn!("model panicked again while it was dropped");
                }
                Err(PoolError::Panicked { message })
            }
        }
    }

    /// Builds a fresh instance of the model.
    fn rebuild(&mut self) -> Result<(), PoolError> {
        let built = catch_unwind(AssertUnwindSafe(|| (self.factory)()));
        let model = built.map_err(|payload| PoolError::Panicked {
            message: panic_message(payload.as_ref()),
        })??;
        self.model = Some(model);
        self.shared.rebuilt.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Returns what a panic said, at most 200 characters.
fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.chars().take(200).collect()
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
