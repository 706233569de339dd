//! The pool under panics, deadlines, overload and stop. No sleeps: models wait on channels.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::baseline::Last;
use crate::input::tests::input_of;

/// Far more than any forecast here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Behaves as the first close of its window says.
struct Scripted {
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
    order: Arc<Mutex<Vec<i64>>>,
}

const WAIT: f64 = 1.0;
const PANIC: f64 = 2.0;
const SHORT: f64 = 3.0;
const NAN: f64 = 4.0;
const GOOD: f64 = 5.0;

impl Forecaster for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn forecast(&mut self, input: &ModelInput) -> Result<Vec<f64>, ModelError> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).push(input.start_ms);
        let script = input.last_close();
        if script == WAIT {
            self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap();
        }
        assert!(script != PANIC, "scripted panic");
        let length = if script == SHORT { 1 } else { input.horizon };
        Ok(vec![if script == NAN { f64::NAN } else { script }; length])
    }
}

struct Bench {
    pool: Arc<ModelPool>,
    open: mpsc::Sender<()>,
    order: Arc<Mutex<Vec<i64>>>,
    built: Arc<AtomicUsize>,
}

fn bench(workers: usize, queue: usize) -> Bench {
    let (open, gate) = mpsc::channel();
    let (gate, order) = (Arc::new(Mutex::new(gate)), Arc::new(Mutex::new(Vec::new())));
    let built = Arc::new(AtomicUsize::new(0));
    let factory: ModelFactory = {
        let (order, built) = (Arc::clone(&order), Arc::clone(&built));
        Arc::new(move || {
            built.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(Scripted { gate: Arc::clone(&gate), order: Arc::clone(&order) }))
        })
    };
    let pool = ModelPool::spawn(PoolConfig { workers, queue }, factory).unwrap();
    Bench { pool: Arc::new(pool), open, order, built }
}

fn ask(script: f64) -> ModelInput {
    input_of(&[script], 3)
}

impl Bench {
    /// Starts a forecast that holds a worker until the gate opens, and waits until it runs.
    async fn occupy(&self) -> tokio::task::JoinHandle<Answer> {
        let before = self.pool.stats().running;
        let pool = Arc::clone(&self.pool);
        let task = tokio::spawn(async move { pool.forecast(ask(WAIT), PATIENCE).await });
        self.until(|stats| stats.running > before).await;
        task
    }

    async fn until(&self, reached: impl Fn(PoolStats) -> bool) {
        let poll = async {
            while !reached(self.pool.stats()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.unwrap();
    }
}

#[tokio::test]
async fn a_forecast_comes_back_checked() {
    let bench = bench(2, 4);
    assert_eq!(bench.pool.forecast(ask(GOOD), PATIENCE).await.unwrap(), [GOOD; 3]);
    let short = bench.pool.forecast(ask(SHORT), PATIENCE).await;
    assert!(matches!(short, Err(PoolError::Model(ModelError::OutputLength { .. }))));
    let nan = bench.pool.forecast(ask(NAN), PATIENCE).await;
    assert!(matches!(nan, Err(PoolError::Model(ModelError::OutputValue { .. }))));
    let stats = bench.pool.stats();
    assert_eq!((stats.completed, stats.failed, stats.panicked, stats.workers), (1, 2, 0, 2));
}

#[tokio::test]
async fn a_panic_costs_its_own_job_and_the_model_is_rebuilt() {
    let bench = bench(1, 4);
    for round in 1..=3 {
        let panicked = bench.pool.forecast(ask(PANIC), PATIENCE).await;
        let Err(PoolError::Panicked { message }) = panicked else { panic!("{panicked:?}") };
        assert_eq!(message, "scripted panic");
        assert_eq!(bench.pool.forecast(ask(GOOD), PATIENCE).await.unwrap(), [GOOD; 3]);
        assert_eq!(bench.pool.stats().panicked, round);
    }
    assert_eq!(bench.pool.stats().rebuilt, 3);
    assert_eq!(bench.built.load(Ordering::SeqCst), 4);
}

/// Panics on every input.
struct Bomb;

impl Forecaster for Bomb {
    fn name(&self) -> &'static str {
        "bomb"
    }

    fn forecast(&mut self, _: &ModelInput) -> Result<Vec<f64>, ModelError> {
        panic!("bomb")
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_rebuilt_at_once_is_rebuilt_later() {
    let built = Arc::new(AtomicUsize::new(0));
    let factory: ModelFactory = {
        let built = Arc::clone(&built);
        Arc::new(move || match built.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Box::new(Bomb)),
            1 => Err(ModelError::NoCheckpoint { model: "bomb".into() }),
            2 => panic!("factory"),
            _ => Ok(Box::new(Last::new("last"))),
        })
    };
    let pool = ModelPool::spawn(PoolConfig::default(), factory).unwrap();
    assert!(matches!(pool.forecast(ask(GOOD), PATIENCE).await, Err(PoolError::Panicked { .. })));
    // The eager rebuild fails, the one for this job panics, the eager one after it succeeds.
    assert!(matches!(pool.forecast(ask(GOOD), PATIENCE).await, Err(PoolError::Panicked { .. })));
    assert_eq!(pool.forecast(ask(GOOD), PATIENCE).await.unwrap(), [GOOD; 3]);
}

#[tokio::test]
async fn a_full_queue_sheds_and_recovers() {
    let bench = bench(1, 2);
    let running = bench.occupy().await;
    let mut waiting = Vec::new();
    for queued in 1..=2 {
        let pool = Arc::clone(&bench.pool);
        waiting.push(tokio::spawn(async move { pool.forecast(ask(GOOD), PATIENCE).await }));
        bench.until(|stats| stats.queued == queued).await;
    }
    let shed = bench.pool.forecast(ask(GOOD), PATIENCE).await;
    assert!(matches!(shed, Err(PoolError::Busy { queue: 2 })));
    assert_eq!(bench.pool.stats().shed, 1);
    bench.open.send(()).unwrap();
    assert!(running.await.unwrap().is_ok());
    for task in waiting {
        assert!(task.await.unwrap().is_ok());
    }
    assert!(bench.pool.forecast(ask(GOOD), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_deadline_frees_the_caller_and_its_queued_job_is_never_run() {
    let bench = bench(1, 1);
    let running = bench.occupy().await;
    let mut late = ask(GOOD);
    late.start_ms += 1;
    // The only worker is held, so no speed of the machine can make this job run in time.
    let deadline = Duration::from_millis(1);
    let answer = bench.pool.forecast(late.clone(), deadline).await;
    assert!(matches!(answer, Err(PoolError::Deadline { deadline: at }) if at == deadline));
    assert_eq!(bench.pool.stats().expired, 1);
    // The abandoned job makes room for the next one although the queue holds only one.
    let pool = Arc::clone(&bench.pool);
    let next = tokio::spawn(async move { pool.enqueue(ask(GOOD)).map(|receiver| (receiver,)) });
    let (receiver,) = next.await.unwrap().unwrap();
    bench.open.send(()).unwrap();
    assert!(receiver.await.unwrap().is_ok());
    assert!(running.await.unwrap().is_ok());
    assert!(!bench.order.lock().unwrap().contains(&late.start_ms));
}

#[tokio::test]
async fn one_worker_answers_in_the_order_of_asking() {
    let bench = bench(1, 64);
    let running = bench.occupy().await;
    let mut receivers = Vec::new();
    for index in 1..=50 {
        let mut input = ask(GOOD);
        input.start_ms = index;
        receivers.push(bench.pool.enqueue(input).unwrap());
    }
    bench.open.send(()).unwrap();
    for receiver in receivers {
        assert!(receiver.await.unwrap().is_ok());
    }
    assert!(running.await.unwrap().is_ok());
    let order = bench.order.lock().unwrap().clone();
    assert_eq!(order[1..], (1..=50).collect::<Vec<i64>>());
}

#[tokio::test]
async fn two_workers_run_at_the_same_time() {
    let bench = bench(2, 4);
    let (first, second) = (bench.occupy().await, bench.occupy().await);
    assert_eq!(bench.pool.stats().running, 2);
    bench.open.send(()).unwrap();
    bench.open.send(()).unwrap();
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
}

#[tokio::test]
async fn stopping_answers_the_queued_jobs_and_waits_for_the_running_one() {
    let Bench { pool, open, .. } = bench(1, 4);
    let pool = Arc::into_inner(pool).unwrap();
    let running = pool.enqueue(ask(WAIT)).unwrap();
    while pool.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    let queued = pool.enqueue(ask(GOOD)).unwrap();
    let stopping = std::thread::spawn(move || pool.stop());
    assert!(queued.await.is_err());
    open.send(()).unwrap();
    assert!(running.await.unwrap().is_ok());
    stopping.join().unwrap();
}

#[tokio::test]
async fn a_dropped_pool_ends_its_threads() {
    let bench = bench(2, 4);
    let shared = Arc::downgrade(&bench.pool.shared);
    drop(bench.pool);
    let ended = async {
        while shared.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[test]
fn bad_sizes_and_models_that_do_not_build_stop_the_start() {
    let good: ModelFactory = Arc::new(|| Ok(Box::new(Last::new("last"))));
    for config in [
        PoolConfig { workers: 0, queue: 1 },
        PoolConfig { workers: 1, queue: 0 },
        PoolConfig { workers: 65, queue: 1 },
    ] {
        let refused = ModelPool::spawn(config, Arc::clone(&good)).map(|_| ());
        assert!(matches!(refused, Err(PoolStartError::Config { .. })));
    }
    let bad: ModelFactory = Arc::new(|| Err(ModelError::NoCheckpoint { model: "x".into() }));
    let refused = ModelPool::spawn(PoolConfig::default(), bad).map(|_| ());
    assert!(matches!(refused, Err(PoolStartError::Model(_))));
}
