//! The network as plain numbers, for answering requests.
//!
//! Derived from the Burn module once, when a checkpoint is loaded, and thrown away with it. One
//! window needs no tensor and no allocation: at batch 1 the products are too small to pay for
//! either. Agrees with [`LstmNetwork::forward`] within `1e-5` of the outputs' unit.

use burn::module::Module;
use burn::nn::Linear;

use crate::network::{GATES, LstmNetwork, NetworkConfig};
use crate::sparse::OUTPUT_POINTS;

/// Why a module cannot be frozen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// A tensor has not the shape that the configuration asks for.
    #[error("tensor `{tensor}` has {got} values, must have {want}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Number of its values.
        got: usize,
        /// Number that the configuration asks for.
        want: usize,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` holds a value that is not finite")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
    },
    /// The values cannot be read as f32.
    #[error("tensor `{tensor}` cannot be read as f32: {reason}")]
    Read {
        /// Name of the tensor.
        tensor: String,
        /// What the tensor library says.
        reason: String,
    },
}

/// One layer: matrices row-major, inputs by 4H, gate order i, f, g, o; both biases added up.
#[derive(Debug, Clone)]
struct FrozenLayer {
    inputs: usize,
    from_input: Vec<f32>,
    from_state: Vec<f32>,
    bias: Vec<f32>,
}

/// Scratch of one layer.
#[derive(Debug, Clone)]
struct LayerState {
    hidden: Vec<f32>,
    cell: Vec<f32>,
}

/// The network with its scratch memory; one per worker.
#[derive(Debug, Clone)]
pub struct FrozenNetwork {
    units: usize,
    layers: Vec<FrozenLayer>,
    head: Vec<f32>,
    head_bias: Vec<f32>,
    states: Vec<LayerState>,
    gates: Vec<f32>,
}

impl FrozenNetwork {
    /// Copies the weights out of `network` after checking their shapes and values.
    ///
    /// # Errors
    /// [`FreezeError`] for the first tensor that is not as `config` says.
    pub fn new(network: &LstmNetwork, config: &NetworkConfig) -> Result<Self, FreezeError> {
        let network = network.valid();
        let units = config.hidden;
        let gates = GATES * units;
        let mut layers = Vec::with_capacity(network.layers.len());
        if network.layers.len() != config.layers {
            return Err(FreezeError::Shape {
                tensor: "layers".to_owned(),
                got: network.layers.len(),
                want: config.layers,
            });
        }
        for (index, layer) in network.layers.iter().enumerate() {
            let inputs = config.layer_inputs(index);
            let name = |part: &str| format!("layers.{index}.{part}");
            let (from_input, mut bias) = weights_of(&layer.wx, &name("wx"), inputs, gates)?;
            let (from_state, second_bias) = weights_of(&layer.wh, &name("wh"), units, gates)?;
            for (sum, more) in bias.iter_mut().zip(&second_bias) {
                *sum += more;
            }
            layers.push(FrozenLayer { inputs, from_input, from_state, bias });
        }
        let (head, head_bias) = weights_of(&network.head, "head", units, OUTPUT_POINTS)?;
        let fresh = LayerState { hidden: vec![0.0; units], cell: vec![0.0; units] };
        Ok(Self {
            units,
            states: vec![fresh; layers.len()],
            layers,
            head,
            head_bias,
            gates: vec![0.0; gates],
        })
    }

    /// Runs one window. `features`: `[T, F]`, row-major. Returns the outputs in units of the
    /// checkpoint's `target_std`.
    pub fn forward(&mut self, features: &[f32]) -> [f32; OUTPUT_POINTS] {
        for state in &mut self.states {
            state.hidden.fill(0.0);
            state.cell.fill(0.0);
        }
        let width = self.layers.first().map_or(1, |layer| layer.inputs);
        for step in features.chunks_exact(width) {
            for index in 0..self.layers.len() {
                let (below, at) = self.states.split_at_mut(index);
                let input = below.last().map_or(step, |state| &state.hidden);
                self.layers[index].step(input, &mut at[0], &mut self.gates);
            }
        }
        let mut outputs = [0.0; OUTPUT_POINTS];
        outputs.copy_from_slice(&self.head_bias);
        if let Some(top) = self.states.last() {
            add_product(&mut outputs, &top.hidden, &self.head);
        }
        outputs
    }

    /// Returns H, the units of each layer.
    pub const fn units(&self) -> usize {
        self.units
    }
}

impl FrozenLayer {
    /// Advances one step. `gates`: scratch `[4H]`.
    fn step(&self, input: &[f32], state: &mut LayerState, gates: &mut [f32]) {
        gates.copy_from_slice(&self.bias);
        add_product(gates, input, &self.from_input);
        add_product(gates, &state.hidden, &self.from_state);
        let units = state.cell.len();
        let (input_gates, rest) = gates.split_at(units);
        let (forget_gates, rest) = rest.split_at(units);
        let (candidates, output_gates) = rest.split_at(units);
        for unit in 0..units {
            let kept = sigmoid(forget_gates[unit]) * state.cell[unit];
            let cell = kept + sigmoid(input_gates[unit]) * candidates[unit].tanh();
            state.cell[unit] = cell;
            state.hidden[unit] = sigmoid(output_gates[unit]) * cell.tanh();
        }
    }
}

/// Adds `row` × `matrix` to `sums`; `matrix` is row-major `[row.len(), sums.len()]`.
fn add_product(sums: &mut [f32], row: &[f32], matrix: &[f32]) {
    for (factor, weights) in row.iter().zip(matrix.chunks_exact(sums.len())) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += factor * weight;
        }
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// Reads weight and bias of a `Linear` and checks count and finiteness.
fn weights_of(
    linear: &Linear,
    name: &str,
    inputs: usize,
    outputs: usize,
) -> Result<(Vec<f32>, Vec<f32>), FreezeError> {
    let read = |values: Result<Vec<f32>, String>, part: &str, want: usize| {
        let tensor = format!("{name}.{part}");
        let values =
            values.map_err(|reason| FreezeError::Read { tensor: tensor.clone(), reason })?;
        if values.len() != want {
            return Err(FreezeError::Shape { tensor, got: values.len(), want });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(FreezeError::NotFinite { tensor });
        }
        Ok(values)
    };
    let weight = linear.weight.val().try_into_vec_as::<f32>().map_err(|e| e.to_string());
    let bias = match &linear.bias {
        Some(bias) => bias.val().try_into_vec_as::<f32>().map_err(|e| e.to_string()),
        None => Ok(vec![0.0; outputs]),
    };
    Ok((read(weight, "weight", inputs * outputs)?, read(bias, "bias", outputs)?))
}
