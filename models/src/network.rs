//! The recurrent network as a Burn module: stacked LSTM layers, dropout, a dense head.
//!
//! One layer holds two `Linear`s, input to four gates and state to four gates, gate order i, f, g, o
//! (the layout of `PyTorch` and, gate for gate, of Keras). Shapes: B batch, T steps, F features of a
//! step, H hidden units, P = [`OUTPUT_POINTS`] outputs.
//!
//! The loop runs over separate `[B, F]` tensors. Slicing step t out of one `[T, B, 4H]` tensor would
//! make each step's backward pass write a gradient of the whole tensor: time grows with T squared.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData, activation};
use forecastd_core::FeatureSet;
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::features::step_width;
use crate::rows::values_of;
use crate::sparse::OUTPUT_POINTS;

/// Number of gates in an LSTM cell: input, forget, candidate, output.
pub const GATES: usize = 4;
/// Most values of one step; bounds memory against a foreign configuration.
const MAX_STEP_WIDTH: usize = 2_048;

/// The architecture; part of the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Candles that the network sees, 2..=10000, a multiple of `patch`.
    pub lookback: usize,
    /// Candles in one step, 1..=64.
    pub patch: usize,
    /// Units of each layer, 1..=1024.
    pub hidden: usize,
    /// Stacked layers, 1..=4.
    pub layers: usize,
    /// Share of a layer's outputs that training drops, 0..1. Without effect on a forecast.
    pub dropout: f64,
    /// What the network reads; returns, volumes, ranges and the time of day of the candles when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureSet>,
}

/// Why an architecture is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkConfigError {
    /// A number lies outside of its range.
    #[error("network key `{key}` is {value}, must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// The window cannot be cut into whole patches.
    #[error("network key `lookback` is {lookback}, must be a multiple of `patch` = {patch}")]
    Patches {
        /// Candles of the window.
        lookback: usize,
        /// Candles of a step.
        patch: usize,
    },
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { lookback: 500, patch: 4, hidden: 32, layers: 1, dropout: 0.2, features: None }
    }
}

impl NetworkConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`NetworkConfigError`] names the first bad key.
    pub fn validate(&self) -> Result<(), NetworkConfigError> {
        let ranges = [
            ("lookback", self.lookback, 2..=10_000, "2..=10000"),
            ("patch", self.patch, 1..=64, "1..=64"),
            ("hidden", self.hidden, 1..=1024, "1..=1024"),
            ("layers", self.layers, 1..=4, "1..=4"),
        ];
        for (key, value, allowed, range) in ranges {
            if !allowed.contains(&value) {
                return Err(NetworkConfigError::Range { key, value: value as f64, range });
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let (key, value, range) = ("dropout", self.dropout, "0 <= x < 1");
            return Err(NetworkConfigError::Range { key, value, range });
        }
        if !self.lookback.is_multiple_of(self.patch) {
            let (lookback, patch) = (self.lookback, self.patch);
            return Err(NetworkConfigError::Patches { lookback, patch });
        }
        let width = self.features();
        if width > MAX_STEP_WIDTH {
            let range = "few enough that a patch of them makes at most 2048 values";
            let (key, value) = ("features", width as f64);
            return Err(NetworkConfigError::Range { key, value, range });
        }
        Ok(())
    }

    /// Returns T, the steps of one window.
    pub const fn steps(&self) -> usize {
        self.lookback / self.patch
    }

    /// Returns F, the values of one step.
    pub fn features(&self) -> usize {
        match &self.features {
            Some(set) => self.patch * values_of(set),
            None => step_width(self.patch),
        }
    }

    /// Returns the number of candles before the window that the features need.
    pub fn warm_up(&self) -> usize {
        self.features.as_ref().map_or(0, FeatureSet::warm_up)
    }

    /// Returns the number of inputs of layer `index`.
    pub(crate) fn layer_inputs(&self, index: usize) -> usize {
        if index == 0 { self.features() } else { self.hidden }
    }

    /// Returns the number of weights.
    pub fn parameters(&self) -> usize {
        let gates = GATES * self.hidden;
        let layers: usize = (0..self.layers)
            .map(|index| (self.layer_inputs(index) + self.hidden + 2) * gates)
            .sum();
        layers + (self.hidden + 1) * OUTPUT_POINTS
    }
}

/// One LSTM layer, all four gates in one product.
#[derive(Module, Debug)]
pub struct FusedLstm {
    /// Input to gates, weight `[in, 4H]`, bias `[4H]`.
    pub wx: Linear,
    /// State to gates, weight `[H, 4H]`, bias `[4H]`.
    pub wh: Linear,
}

/// State of one layer between steps, each `[B, H]`.
#[derive(Debug, Clone)]
pub struct LstmState {
    hidden: Tensor<2>,
    cell: Tensor<2>,
}

impl LstmState {
    /// Creates the state before the first step.
    pub fn zeros(batch: usize, units: usize, device: &Device) -> Self {
        let zeros = Tensor::zeros([batch, units], device);
        Self { hidden: zeros.clone(), cell: zeros }
    }
}

impl FusedLstm {
    /// Advances one step. `input`: `[B, in]`. The new state's `hidden` is the output.
    fn step(&self, input: Tensor<2>, state: LstmState) -> LstmState {
        let gates = self.wx.forward(input) + self.wh.forward(state.hidden); // [B, 4H]
        let units = state.cell.dims()[1];
        let gate = |index: usize| gates.clone().narrow(1, index * units, units); // [B, H]
        let input_gate = activation::sigmoid(gate(0));
        let forget_gate = activation::sigmoid(gate(1));
        let candidate = gate(2).tanh();
        let output_gate = activation::sigmoid(gate(3));
        let cell = forget_gate * state.cell + input_gate * candidate; // [B, H]
        let hidden = output_gate * cell.clone().tanh(); // [B, H]
        LstmState { hidden, cell }
    }
}

/// The whole network: LSTM layers, then a dense head of [`OUTPUT_POINTS`] outputs.
#[derive(Module, Debug)]
pub struct LstmNetwork {
    /// The recurrent layers, input side first.
    pub layers: Vec<FusedLstm>,
    /// Last state to outputs, weight `[H, P]`, bias `[P]`.
    pub head: Linear,
}

impl LstmNetwork {
    /// Creates a network with random layers and a head of zeros, so that it starts as the
    /// persistence baseline.
    ///
    /// Recurrent weights are uniform in ±1/√H, the forget gate's bias starts at 1 (a fresh cell
    /// keeps its memory). Draws from `random` only, never from Burn's global generator.
    pub fn new(config: &NetworkConfig, random: &mut StdRng, device: &Device) -> Self {
        let units = config.hidden;
        let bound = 1.0 / (units as f32).sqrt();
        let mut uniform = |count: usize| -> Vec<f32> {
            (0..count).map(|_| random.random_range(-bound..bound)).collect()
        };
        let layers = (0..config.layers)
            .map(|index| {
                let inputs = config.layer_inputs(index);
                let mut bias = vec![0.0; GATES * units];
                bias[units..2 * units].fill(1.0);
                FusedLstm {
                    wx: linear(uniform(inputs * GATES * units), bias, inputs, device),
                    wh: linear(
                        uniform(units * GATES * units),
                        vec![0.0; GATES * units],
                        units,
                        device,
                    ),
                }
            })
            .collect();
        let head =
            linear(vec![0.0; units * OUTPUT_POINTS], vec![0.0; OUTPUT_POINTS], units, device);
        Self { layers, head }
    }

    /// Runs a batch of windows.
    ///
    /// `steps`: T tensors `[B, F]`. `masks`: one `[B, H]` dropout mask a layer, the same for all
    /// steps of a window (0 or 1/keep), or none for a forecast. Returns `[B, P]`, in units of the
    /// checkpoint's `target_std`.
    pub fn forward(&self, steps: Vec<Tensor<2>>, masks: Option<&[Tensor<2>]>) -> Tensor<2> {
        let units = self.head.weight.dims()[0];
        let Some([batch, _]) = steps.first().map(Tensor::dims) else {
            return self.head.forward(Tensor::zeros([1, units], &self.head.weight.val().device()));
        };
        let device = steps[0].device();
        let mut states: Vec<LstmState> =
            self.layers.iter().map(|_| LstmState::zeros(batch, units, &device)).collect();
        let mut output = states[0].hidden.clone();
        for step in steps {
            let mut input = step; // [B, F], then [B, H]
            for (index, layer) in self.layers.iter().enumerate() {
                let next = layer.step(input, states[index].clone());
                input = match masks {
                    Some(masks) => next.hidden.clone() * masks[index].clone(),
                    None => next.hidden.clone(),
                };
                states[index] = next;
            }
            output = input;
        }
        self.head.forward(output) // [B, P]
    }
}

/// Builds a `Linear` from plain numbers; `weight` has shape `[inputs, bias.len()]`.
fn linear(weight: Vec<f32>, bias: Vec<f32>, inputs: usize, device: &Device) -> Linear {
    let outputs = bias.len();
    Linear {
        weight: Param::from_data(TensorData::new(weight, [inputs, outputs]), device),
        bias: Some(Param::from_data(TensorData::new(bias, [outputs]), device)),
    }
}

/// Draws one dropout mask a layer, shape `[B, H]`.
pub(crate) fn dropout_masks(
    config: &NetworkConfig,
    batch: usize,
    random: &mut StdRng,
    device: &Device,
) -> Option<Vec<Tensor<2>>> {
    if config.dropout <= 0.0 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a scale of masks, seven digits are plenty"
    )]
    let kept = (1.0 / (1.0 - config.dropout)) as f32;
    let masks = (0..config.layers)
        .map(|_| {
            let mask: Vec<f32> = (0..batch * config.hidden)
                .map(|_| if random.random_bool(config.dropout) { 0.0 } else { kept })
                .collect();
            Tensor::from_data(TensorData::new(mask, [batch, config.hidden]), device)
        })
        .collect();
    Some(masks)
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
