//! Turns closed windows into forecasts, so that every query is answered from memory.
//!
//! Receives: [`WindowReady`] from the candle actor, once a candle. Sends: nothing; publishes the
//! forecast on the board. Owns `ForecastRecord`s. The models run on the worker threads of their
//! pools, never here; when the best model of a stream fails, is late or talks nonsense, the next
//! one answers, and the last one is always the last close. On restart: pools are built anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::prelude::*;
use forecastd_core::{Forecast, StreamId};
use forecastd_models::{ModelInput, ModelKind, ModelPool, ModelSpec, PoolConfig, load};
use forecastd_store::{Batch, ForecastRecord};
use tracing::{info, warn};

use crate::error::{ActorError, StepContext, with_causes};
use crate::events::Event;
use crate::guard;
use crate::node::Node;
use crate::settings::ModelSettings;
use crate::vitals::Vitals;

/// Windows that wait; a newer one makes an older one worthless, so few are kept.
const MAILBOX: usize = 4;
/// Forecasts that may wait for a worker of one model.
const POOL_QUEUE: usize = 4;
/// Failures of a model in a row after which an operator must look.
const ALARM_FAILURES: u32 = 3;
/// A forecast further than this factor from the last close is nonsense and is not sent.
const NONSENSE_FACTOR: f64 = 2.0;

/// A whole lookback window whose newest candle has just closed.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WindowReady {
    /// What the models get to see.
    pub input: ModelInput,
}

#[derive(Debug)]
struct LoadedModel {
    settings: ModelSettings,
    pool: ModelPool,
    /// Forecasts in a row that it did not give.
    failures: AtomicU32,
}

impl LoadedModel {
    /// Notes whether the model answered, and tells the operator of one that keeps failing.
    fn note(&self, node: &Node, failure: Option<String>) {
        let about = alarm_of(&self.settings);
        let Some(failure) = failure else {
            self.failures.store(0, Ordering::Relaxed);
            return node.clear_alarm(&about);
        };
        let name = &self.settings.name;
        warn!(actor = "forecaster", model = name, error = failure, "asking the next model");
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= ALARM_FAILURES {
            let what = format!("model {name} fails, the next one answers for it: {failure}");
            node.raise_alarm(&about, what);
        }
    }
}

fn alarm_of(model: &ModelSettings) -> String {
    format!("model {}", model.name)
}

/// The forecaster, see the module.
#[derive(Debug)]
pub struct Forecaster {
    node: Node,
    vitals: Arc<Vitals>,
    models: BTreeMap<StreamId, Arc<Vec<LoadedModel>>>,
    resume_after: Duration,
}

impl Forecaster {
    /// Creates the actor; pools are started with the first window of their stream.
    pub const fn new(node: Node, vitals: Arc<Vitals>) -> Self {
        Self { node, vitals, models: BTreeMap::new(), resume_after: Duration::ZERO }
    }

    /// Returns the stream's models, loading them at the first call; `last` is always the last.
    fn models(&mut self, stream: &StreamId) -> Arc<Vec<LoadedModel>> {
        if let Some(models) = self.models.get(stream) {
            return Arc::clone(models);
        }
        let settings = self.node.settings.load();
        let mut wanted = settings.stream(stream).map_or_else(Vec::new, |s| s.models.clone());
        if wanted.last().is_none_or(|model| model.kind != ModelKind::Last) {
            wanted.push(ModelSettings {
                name: "last".to_owned(),
                kind: ModelKind::Last,
                checkpoint: None,
                workers: 1,
                deadline: Duration::from_secs(1),
            });
        }
        let mut models = Vec::with_capacity(wanted.len());
        for settings in wanted {
            match start_pool(&settings) {
                Ok(pool) => {
                    self.node.clear_alarm(&alarm_of(&settings));
                    models.push(LoadedModel { settings, pool, failures: AtomicU32::new(0) });
                }
                Err(error) => {
                    let checkpoint = settings.checkpoint.as_deref().unwrap_or(Path::new(""));
                    let what = format!(
                        "model {} ({}) cannot be loaded, the next one answers for it: {}",
                        settings.name,
                        checkpoint.display(),
                        with_causes(&error)
                    );
                    self.node.raise_alarm(&alarm_of(&settings), what);
                }
            }
        }
        let models = Arc::new(models);
        self.models.insert(stream.clone(), Arc::clone(&models));
        models
    }
}

fn start_pool(settings: &ModelSettings) -> Result<ModelPool, ActorError> {
    let spec = ModelSpec {
        name: settings.name.clone(),
        kind: settings.kind,
        checkpoint: settings.checkpoint.clone(),
    };
    let config = PoolConfig { workers: settings.workers, queue: POOL_QUEUE };
    ModelPool::spawn(config, Arc::new(move || load(&spec))).step("loading the model")
}

/// Asks the models in their order and returns the first sound forecast with its model's name.
async fn best_forecast(
    node: &Node,
    models: &[LoadedModel],
    input: &ModelInput,
) -> Result<(String, Forecast), ActorError> {
    let last_close = input.candles.last().map(|candle| candle.close);
    let sane = last_close.map(|close| (close, NONSENSE_FACTOR));
    for model in models {
        let name = &model.settings.name;
        let closes = match model.pool.forecast(input.clone(), model.settings.deadline).await {
            Ok(closes) => closes,
            Err(error) => {
                model.note(node, Some(with_causes(&error)));
                continue;
            }
        };
        let stream = input.stream.clone();
        match Forecast::new(stream, input.start_ms, closes, input.horizon, sane) {
            Ok(forecast) => {
                model.note(node, None);
                return Ok((name.clone(), forecast));
            }
            Err(error) => model.note(node, Some(with_causes(&error))),
        }
    }
    Err(ActorError::NotReady("no model of the stream gave a forecast"))
}

impl Actor for Forecaster {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Supervised for Forecaster {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.models.clear();
        self.resume_after = guard::restarted(self);
    }
}

impl Handler<WindowReady> for Forecaster {
    type Result = ();

    fn handle(&mut self, message: WindowReady, ctx: &mut Self::Context) {
        let input = message.input;
        let models =
            guard::run(self, ctx, "choosing models", |actor, _| Ok(actor.models(&input.stream)));
        let Ok(models) = models else { return };
        let node = self.node.clone();
        let work = async move {
            let (model, forecast) = best_forecast(&node, &models, &input).await?;
            let key = (forecast.stream().clone(), forecast.start_ms());
            let record =
                ForecastRecord { model: model.clone(), closes: forecast.closes().to_vec() };
            let batch = Batch::new().put(&key, &record).step("encoding the forecast")?;
            node.store.write(batch).await.step("storing the forecast")?;
            Ok((model, forecast))
        };
        guard::spawn(self, ctx, "forecasting", work, |actor, _, (model, forecast)| {
            actor.publish(model, forecast);
            Ok(())
        });
    }
}

impl Forecaster {
    fn publish(&self, model: String, forecast: Forecast) {
        let (stream, start_ms) = (forecast.stream().clone(), forecast.start_ms());
        let closes = forecast.closes();
        let ends = (closes.first().copied(), closes.last().copied());
        let boards = &self.node.boards;
        let mut forecasts = (**boards.forecasts.load()).clone();
        // A second one of the same start is of a candle that late exchanges made whole.
        let newer = forecasts.get(&stream).is_none_or(|known| known.start_ms() <= start_ms);
        if !newer {
            return;
        }
        if let (Some(first), Some(last)) = ends {
            info!(actor = "forecaster", %stream, start_ms, model, "forecast ready");
            self.node.events.emit(Event::Forecast {
                stream: stream.clone(),
                start_ms,
                model,
                first,
                last,
            });
        }
        forecasts.insert(stream, Arc::new(forecast));
        boards.forecasts.store(Arc::new(forecasts));
    }
}

crate::life_signs!(Forecaster);
