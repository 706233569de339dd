//! Parity: the Burn module, its frozen copy and a plain f64 reference; gradients by differences.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{GATES, LstmNetwork, NetworkConfig, NetworkConfigError};
use crate::frozen::{FreezeError, FrozenNetwork};
use crate::sparse::OUTPUT_POINTS;

/// Greatest difference of an output; the outputs' magnitude is about 0.5.
const TOLERANCE: f64 = 1e-5;

fn config(lookback: usize, patch: usize, hidden: usize, layers: usize) -> NetworkConfig {
    NetworkConfig { lookback, patch, hidden, layers, dropout: 0.0, features: None }
}

/// A network whose head is random too, so that outputs and gradients are not zero.
fn network(config: &NetworkConfig, random: &mut StdRng, device: &Device) -> LstmNetwork {
    let mut network = LstmNetwork::new(config, random, device);
    let values: Vec<f32> =
        (0..config.hidden * OUTPUT_POINTS).map(|_| random.random_range(-0.5..0.5)).collect();
    let shape = [config.hidden, OUTPUT_POINTS];
    network.head.weight = Param::from_data(TensorData::new(values, shape), device);
    network
}

/// The weights as nested f64 rows.
struct Reference {
    layers: Vec<[Vec<Vec<f64>>; 2]>,
    biases: Vec<Vec<f64>>,
    head: Vec<Vec<f64>>,
    head_bias: Vec<f64>,
}

fn rows(tensor: Tensor<2>) -> Vec<Vec<f64>> {
    let [_, columns] = tensor.dims();
    let values = tensor.try_into_vec_as::<f32>().unwrap();
    values.chunks(columns).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
}

fn column(tensor: Tensor<1>) -> Vec<f64> {
    tensor.try_into_vec_as::<f32>().unwrap().into_iter().map(f64::from).collect()
}

impl Reference {
    fn new(network: &LstmNetwork) -> Self {
        let network = network.valid();
        let bias = |layer: &super::FusedLstm| {
            let wx = column(layer.wx.bias.as_ref().unwrap().val());
            let wh = column(layer.wh.bias.as_ref().unwrap().val());
            wx.iter().zip(&wh).map(|(a, b)| a + b).collect()
        };
        Self {
            layers: network
                .layers
                .iter()
                .map(|layer| [rows(layer.wx.weight.val()), rows(layer.wh.weight.val())])
                .collect(),
            biases: network.layers.iter().map(bias).collect(),
            head: rows(network.head.weight.val()),
            head_bias: column(network.head.bias.as_ref().unwrap().val()),
        }
    }

    /// The textbook recurrence, one number at a time. `steps`: T rows of F.
    fn forward(&self, steps: &[Vec<f64>]) -> Vec<f64> {
        let sigmoid = |value: f64| 1.0 / (1.0 + (-value).exp());
        let mut sequence = steps.to_vec();
        for ([wx, wh], bias) in self.layers.iter().zip(&self.biases) {
            let units = bias.len() / GATES;
            let (mut hidden, mut cell) = (vec![0.0; units], vec![0.0; units]);
            for step in &mut sequence {
                let gate = |index: usize| {
                    let inputs: f64 = step.iter().zip(wx).map(|(x, row)| x * row[index]).sum();
                    let states: f64 = hidden.iter().zip(wh).map(|(h, row)| h * row[index]).sum();
                    inputs + states + bias[index]
                };
                let next: Vec<(f64, f64)> = (0..units)
                    .map(|unit| {
                        let input = sigmoid(gate(unit));
                        let forget = sigmoid(gate(units + unit));
                        let candidate = gate(2 * units + unit).tanh();
                        let output = sigmoid(gate(3 * units + unit));
                        let cell = forget * cell[unit] + input * candidate;
                        (output * cell.tanh(), cell)
                    })
                    .collect();
                (hidden, cell) = next.into_iter().unzip();
                step.clone_from(&hidden);
            }
        }
        let last = &sequence[sequence.len() - 1];
        (0..OUTPUT_POINTS)
            .map(|point| {
                let sum: f64 = last.iter().zip(&self.head).map(|(h, row)| h * row[point]).sum();
                sum + self.head_bias[point]
            })
            .collect()
    }
}

fn random_steps(config: &NetworkConfig, random: &mut StdRng) -> Vec<Vec<f32>> {
    (0..config.steps())
        .map(|_| (0..config.features()).map(|_| random.random_range(-2.0..2.0)).collect())
        .collect()
}

fn widen(steps: &[Vec<f32>]) -> Vec<Vec<f64>> {
    steps.iter().map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect()
}

/// T leaves `[B, F]` from B windows.
fn leaves(windows: &[Vec<Vec<f32>>], device: &Device) -> Vec<Tensor<2>> {
    let width = windows[0][0].len();
    (0..windows[0].len())
        .map(|step| {
            let values: Vec<f32> = windows.iter().flat_map(|w| w[step].clone()).collect();
            Tensor::from_data(TensorData::new(values, [windows.len(), width]), device)
        })
        .collect()
}

#[test]
fn module_and_frozen_copy_agree_with_the_f64_reference() {
    // Odd sizes on purpose: nothing may depend on a multiple of a vector's width.
    let shapes = [(8, 1, 5, 1), (12, 3, 17, 2), (500, 4, 32, 2), (60, 4, 33, 3)];
    for (seed, (lookback, patch, hidden, layers)) in (1..).zip(shapes) {
        let config = config(lookback, patch, hidden, layers);
        let mut random = StdRng::seed_from_u64(seed);
        let network = network(&config, &mut random, &Device::flex());
        let mut frozen = FrozenNetwork::new(&network, &config).unwrap();
        let reference = Reference::new(&network);
        let windows = [random_steps(&config, &mut random), random_steps(&config, &mut random)];
        let outputs = rows(network.forward(leaves(&windows, &Device::flex()), None));
        for (window, module) in windows.iter().zip(outputs) {
            let exact = reference.forward(&widen(window));
            let flat: Vec<f32> = window.iter().flatten().copied().collect();
            let packed = frozen.forward(&flat);
            assert!(exact.iter().any(|value| value.abs() > 0.01), "a test of nothing");
            for (index, exact) in exact.iter().enumerate() {
                assert!((module[index] - exact).abs() < TOLERANCE, "module {config:?}");
                assert!((f64::from(packed[index]) - exact).abs() < TOLERANCE, "frozen {config:?}");
            }
        }
    }
}

#[test]
fn gradients_agree_with_differences_of_the_reference() {
    let config = config(6, 2, 4, 2);
    let mut random = StdRng::seed_from_u64(7);
    let device = Device::flex().autodiff();
    let network = network(&config, &mut random, &device);
    let windows = [random_steps(&config, &mut random), random_steps(&config, &mut random)];
    let gradients = network.forward(leaves(&windows, &device), None).sum().backward();
    let sum = |reference: &Reference| -> f64 {
        windows.iter().flat_map(|window| reference.forward(&widen(window))).sum()
    };
    let mut checked = 0;
    for (index, layer) in network.layers.iter().enumerate() {
        for (part, linear) in [&layer.wx, &layer.wh].into_iter().enumerate() {
            let exact = rows(linear.weight.val().grad(&gradients).unwrap());
            for (row, values) in exact.iter().enumerate() {
                for (at, gradient) in values.iter().enumerate() {
                    let mut shifted = Reference::new(&network);
                    let weight = &mut shifted.layers[index][part][row][at];
                    *weight += 1e-5;
                    let above = sum(&shifted);
                    shifted.layers[index][part][row][at] -= 2e-5;
                    let difference = (above - sum(&shifted)) / 2e-5;
                    assert!(
                        (gradient - difference).abs() < 1e-4 * (1.0 + difference.abs()),
                        "layer {index} part {part} [{row}, {at}]: {gradient} {difference}"
                    );
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, (config.features() + 3 * config.hidden) * GATES * config.hidden);
}

#[test]
fn a_fresh_network_is_the_persistence_baseline() {
    let config = config(8, 4, 6, 2);
    let mut random = StdRng::seed_from_u64(3);
    let network = LstmNetwork::new(&config, &mut random, &Device::flex());
    let windows = [random_steps(&config, &mut random)];
    let outputs = rows(network.forward(leaves(&windows, &Device::flex()), None));
    assert!(outputs[0].iter().all(|value| *value == 0.0));
    assert_eq!(network.num_params(), config.parameters());
}

#[test]
fn a_frozen_network_forgets_the_window_before() {
    let config = config(8, 2, 5, 2);
    let mut random = StdRng::seed_from_u64(5);
    let network = network(&config, &mut random, &Device::flex());
    let mut frozen = FrozenNetwork::new(&network, &config).unwrap();
    let flat = |random: &mut StdRng| random_steps(&config, random).concat();
    let (first, second) = (flat(&mut random), flat(&mut random));
    let fresh = frozen.forward(&first);
    frozen.forward(&second);
    assert_eq!(frozen.forward(&first).map(f32::to_bits), fresh.map(f32::to_bits));
}

#[test]
fn weights_that_are_not_finite_or_do_not_fit_are_refused() {
    let config = config(8, 2, 5, 2);
    let mut network = LstmNetwork::new(&config, &mut StdRng::seed_from_u64(1), &Device::flex());
    let wider = NetworkConfig { hidden: 6, ..config.clone() };
    assert!(matches!(FrozenNetwork::new(&network, &wider), Err(FreezeError::Shape { .. })));
    let deeper = NetworkConfig { layers: 3, ..config.clone() };
    assert!(matches!(FrozenNetwork::new(&network, &deeper), Err(FreezeError::Shape { .. })));
    network.head.weight = network.head.weight.map(|weight| weight * f32::NAN);
    let refused = FrozenNetwork::new(&network, &config);
    assert_eq!(refused.unwrap_err(), FreezeError::NotFinite { tensor: "head.weight".into() });
}

#[test]
fn every_bad_architecture_names_its_key() {
    let good = NetworkConfig::default();
    assert_eq!(good.validate(), Ok(()));
    let key_of = |config: NetworkConfig| match config.validate().unwrap_err() {
        NetworkConfigError::Range { key, .. } => key,
        NetworkConfigError::Patches { .. } => "patches",
    };
    assert_eq!(key_of(NetworkConfig { lookback: 0, ..good.clone() }), "lookback");
    assert_eq!(key_of(NetworkConfig { patch: 0, ..good.clone() }), "patch");
    assert_eq!(key_of(NetworkConfig { hidden: 5000, ..good.clone() }), "hidden");
    assert_eq!(key_of(NetworkConfig { layers: 0, ..good.clone() }), "layers");
    assert_eq!(key_of(NetworkConfig { dropout: 1.0, ..good.clone() }), "dropout");
    assert_eq!(key_of(NetworkConfig { dropout: f64::NAN, ..good.clone() }), "dropout");
    assert_eq!(key_of(NetworkConfig { lookback: 501, ..good }), "patches");
}
