//! Compares the composed operators with Burn's autodiff, and the fused operators with the composed ones, on
//! shapes that fill no vector and no tile.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use undertone_data::{Branch, Document};
use undertone_ops::{
    Activation, AdamWStep, Composed, Fused, Heads, LinearBackward, LowRank, MatmulPrecision, Moments, NormBackward,
    Operators, PackedCopies, Rotation, Weight,
};

const EPSILON: f64 = 1e-5;
const HEADS: Heads = Heads { heads: 6, key_heads: 2, width: 10, scale: 0.3, window: None };
const FUSED: Fused = Fused::new(MatmulPrecision::Highest);

/// Random numbers from −1 to 1; the name is the seed.
fn random(name: &str, shape: [usize; 2]) -> Tensor<2> {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let mut random = ChaCha8Rng::from_seed(seed);
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn values(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().try_to_vec().expect("a tensor of f32")
}

/// The largest difference relative to the largest element.
fn difference(a: &Tensor<2>, b: &Tensor<2>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let largest = a.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "zero everywhere");
    a.iter().zip(&b).fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs())) / largest
}

#[track_caller]
fn close(what: &str, a: &Tensor<2>, b: &Tensor<2>, tolerance: f32) {
    let difference = difference(a, b);
    assert!(difference <= tolerance, "{what} differs by {difference:.1e}");
}

/// The gradients of Σ y ∘ `d_y` with respect to `inputs`, by autodiff.
fn autodiff<const N: usize>(
    inputs: [&Tensor<2>; N],
    d_y: &Tensor<2>,
    f: impl FnOnce([&Tensor<2>; N]) -> Tensor<2>,
) -> [Tensor<2>; N] {
    let tracked = inputs.map(|input| input.clone().autodiff().require_grad());
    let y = f(std::array::from_fn(|index| &tracked[index]));
    let mut gradients = (y * d_y.clone().autodiff()).sum().backward();
    tracked.map(|input| input.grad_remove(&mut gradients).expect("the input reaches the result"))
}

#[test]
fn rms_norm() {
    let (x, weight, d_y) = (random("x", [77, 36]), random("w", [1, 36]), random("dy", [77, 36]));
    let expected = autodiff([&x, &weight], &d_y, |[x, weight]| Composed.rms_norm(x, weight, EPSILON));
    let before = random("before", [77, 36]);
    for operators in [&Composed as &dyn Operators, &FUSED] {
        close("y", &Composed.rms_norm(&x, &weight, EPSILON), &operators.rms_norm(&x, &weight, EPSILON), 1e-6);
        let (d_x, d_weight) = operators.rms_norm_backward(NormBackward {
            x: &x,
            weight: &weight,
            epsilon: EPSILON,
            d_y: &d_y,
            d_x: before.clone(),
            weight_gradient: true,
        });
        close("dx", &(expected[0].clone() + before.clone()), &d_x, 2e-6);
        close("dw", &expected[1], &d_weight.expect("asked for"), 2e-6);
    }
}

#[test]
fn rotate() {
    let positions: Vec<u32> = (0..77).map(|index| index * 13 % 500).collect();
    let (x, d_y) = (random("x", [77, 60]), random("dy", [77, 60]));
    // All elements of a head, and the first six of ten.
    for rotated in [HEADS.width, 6] {
        let frequencies = Rotation::frequencies(rotated, 1e5);
        let rotation = |device: &Device| Rotation::new(&positions, HEADS.width, &frequencies, 1.0, device);
        let [expected] = autodiff([&x], &d_y, |[x]| Composed.rotate(x.clone(), &rotation(&x.device()), false));
        let rotation = rotation(&Device::flex());
        for operators in [&Composed as &dyn Operators, &FUSED] {
            let turned = operators.rotate(x.clone(), &rotation, false);
            close("y", &Composed.rotate(x.clone(), &rotation, false), &turned, 1e-6);
            close("x", &x, &operators.rotate(turned.clone(), &rotation, true), 1e-6);
            close("dx", &expected, &operators.rotate(d_y.clone(), &rotation, true), 1e-6);
            let stays = |tensor: &Tensor<2>| values(&tensor.clone().narrow(1, rotated, HEADS.width - rotated));
            assert!(rotated == HEADS.width || stays(&turned) == stays(&x));
        }
    }
}

#[test]
fn gated() {
    let [gate, up, d_y] = ["gate", "up", "dy"].map(|name| random(name, [501, 77]) * 9.0);
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let expected = autodiff([&gate, &up], &d_y, |[gate, up]| Composed.gated(activation, gate, up));
        for operators in [&Composed as &dyn Operators, &FUSED] {
            close("y", &Composed.gated(activation, &gate, &up), &operators.gated(activation, &gate, &up), 1e-6);
            let [d_gate, d_up] = operators.gated_backward(activation, &gate, &up, d_y.clone());
            close("dgate", &expected[0], &d_gate, 3e-6);
            close("dup", &expected[1], &d_up, 1e-6);
        }
    }
}

/// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) at 1 and −2, by a calculator.
#[test]
fn gelu_has_its_values() {
    let gate = Tensor::from_data(TensorData::new(vec![1.0_f32, -2.0], [1, 2]), &Device::flex());
    for operators in [&Composed as &dyn Operators, &FUSED] {
        let values = values(&operators.gated(Activation::GeluTanh, &gate, &gate.ones_like()));
        assert!((values[0] - 0.841_192).abs() < 1e-6 && (values[1] + 0.045_402).abs() < 1e-6, "{values:?}");
    }
}

/// Two documents; the second has three branches, one of them longer than a tile.
fn documents() -> [Document; 2] {
    let plain = Document { id: "plain".into(), start: 0, trunk: 83, branches: Vec::new(), tokens: 83 };
    let branches = vec![
        Branch { anchor: 70, span: 150..157 },
        Branch { anchor: 150, span: 157..290 },
        Branch { anchor: 0, span: 290..293 },
    ];
    [plain, Document { id: "branched".into(), start: 83, trunk: 150, branches, tokens: 293 }]
}

#[test]
fn attention() {
    let documents = documents();
    let (q, d_y) = (random("q", [376, 60]) * 3.0, random("dy", [376, 60]));
    let [k, v] = ["k", "v"].map(|name| random(name, [376, 20]) * 3.0);
    // A window within a tile, one that reaches over tiles, and none.
    for window in [Some(5), Some(140), None] {
        let heads = Heads { window, ..HEADS };
        let expected = autodiff([&q, &k, &v], &d_y, |qkv| Composed.attend(qkv, heads, &documents).rows);
        for operators in [&Composed as &dyn Operators, &FUSED] {
            let attended = operators.attend([&q, &k, &v], heads, &documents);
            close("y", &Composed.attend([&q, &k, &v], heads, &documents).rows, &attended.rows, 2e-6);
            let gradients = operators.attend_backward([&q, &k, &v], &attended, &d_y, heads, &documents);
            for ((name, expected), gradient) in ["dq", "dk", "dv"].iter().zip(&expected).zip(&gradients) {
                close(name, expected, gradient, 5e-6);
            }
        }
    }
}

#[test]
fn attention_behind_a_cache() {
    let document = |tokens| [Document { id: String::new(), start: 0, trunk: tokens, branches: Vec::new(), tokens }];
    let q = random("q", [99, 60]);
    let [k, v] = ["k", "v"].map(|name| random(name, [99, 20]));
    for operators in [&Composed as &dyn Operators, &FUSED] {
        let whole = operators.attend([&q, &k, &v], HEADS, &document(99)).rows.narrow(0, 92, 7);
        let last = operators.attend([&q.clone().narrow(0, 92, 7), &k, &v], HEADS, &document(7));
        close("y", &whole, &last.rows, 1e-6);
    }
}

#[test]
fn linear() {
    let (x, weight, d_y) = (random("x", [131, 36]), random("w", [52, 36]), random("dy", [131, 52]));
    let (a, b, residual) = (random("a", [5, 36]), random("b", [52, 5]), random("residual", [131, 52]));
    let mask = random("mask", [131, 36]).greater_elem(0.0).float() * 2.0;
    for mask in [None, Some(mask)] {
        let tracked_mask = mask.clone().map(Tensor::autodiff);
        let expected = autodiff([&x, &weight, &a, &b], &d_y, |[x, weight, a, b]| {
            let low_rank = LowRank { a, b, scale: 0.7, mask: tracked_mask };
            Composed.linear(x, Weight { value: weight, copies: None }, Some(&low_rank), None).0
        });
        let low_rank = LowRank { a: &a, b: &b, scale: 0.7, mask };
        let weight = Weight { value: &weight, copies: None };
        let (y, _) = Composed.linear(&x, weight, Some(&low_rank), Some(residual.clone()));
        let before = random("before", [131, 36]);
        for operators in [&Composed as &dyn Operators, &FUSED] {
            let (ours, hidden) = operators.linear(&x, weight, Some(&low_rank), Some(residual.clone()));
            close("y", &y, &ours, 1e-6);
            let gradients = operators.linear_backward(LinearBackward {
                x: &x,
                weight,
                low_rank: Some(low_rank.clone()),
                lora_hidden: hidden.as_ref(),
                d_y: &d_y,
                d_x: Some(before.clone()),
                weight_gradient: true,
            });
            close("dx", &(expected[0].clone() + before.clone()), &gradients.input, 2e-6);
            close("dw", &expected[1], &gradients.weight.expect("asked for"), 2e-6);
            let [d_a, d_b] = gradients.low_rank.expect("there is an adapter");
            close("da", &expected[2], &d_a, 2e-6);
            close("db", &expected[3], &d_b, 2e-6);
        }
    }
}

/// A text generated in a batch equals the text generated alone.
#[test]
fn a_few_rows_come_out_as_each_alone() {
    let (x, weight, residual) = (random("x", [7, 300]), random("w", [52, 300]), random("residual", [7, 52]));
    let [a, b] = [random("a", [4, 300]), random("b", [52, 4])];
    let adapter = LowRank { a: &a, b: &b, scale: 2.0, mask: None };
    let weight = Weight { value: &weight, copies: None };
    let rows = FUSED.linear(&x, weight, Some(&adapter), Some(residual.clone())).0;
    close("rows", &Composed.linear(&x, weight, Some(&adapter), Some(residual.clone())).0, &rows, 1e-4);
    for row in 0..7 {
        let residual = residual.clone().narrow(0, row, 1);
        let alone = FUSED.linear(&x.clone().narrow(0, row, 1), weight, Some(&adapter), Some(residual)).0;
        close("row", &rows.clone().narrow(0, row, 1), &alone, 0.0);
    }
}

#[test]
fn cross_entropy() {
    let (x, weight) = (random("x", [300, 36]), random("w", [1001, 36]) * 2.0);
    let targets: Vec<u32> = (0..300).map(|index| index * 7 % 1001).collect();
    let columns: Vec<i64> = targets.iter().map(|&id| i64::from(id)).collect();
    let at_targets = |logits: Tensor<2>| {
        let columns = Tensor::from_data(TensorData::new(columns.clone(), [300, 1]), &logits.device().inner());
        burn::tensor::activation::log_softmax(logits, 1).gather(1, columns).neg()
    };
    let ones = Tensor::ones([300, 1], &Device::flex()) * 0.3;
    let expected =
        autodiff([&x, &weight], &ones, |[x, weight]| at_targets(x.clone().matmul(weight.clone().transpose())));
    let nats = at_targets(x.clone().matmul(weight.clone().transpose()));
    for operators in [&Composed as &dyn Operators, &FUSED] {
        let weight = Weight { value: &weight, copies: None };
        close("nats", &nats, &operators.nats(&x, weight, &targets).reshape([300, 1]), 1e-6);
        let ours = operators.nats_and_gradients(&x, weight, &targets, 0.3, true);
        close("nats", &nats, &ours.nats.reshape([300, 1]), 1e-6);
        close("dx", &expected[0], &ours.d_x, 2e-6);
        close("dw", &expected[1], &ours.d_weight.expect("asked for"), 2e-6);
    }
}

#[test]
fn optimiser() {
    let new = || Moments { first: random("m", [77, 333]), second: random("v", [77, 333]).square() };
    let (value, gradient) = (random("w", [77, 333]), random("g", [77, 333]));
    let clip = Tensor::<1>::from_data([0.37_f32], &Device::flex());
    let step = AdamWStep {
        learning_rate: 0.01,
        decay: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        correct_first: 0.3,
        correct_second: 0.1,
    };
    let (plain, plain_moments) = Composed.adamw(value.clone(), new(), &gradient, &clip, &step);
    let (fused, fused_moments) = FUSED.adamw(value.clone(), new(), &gradient, &clip, &step);
    close("w", &plain, &fused, 1e-6);
    close("m", &plain_moments.first, &fused_moments.first, 1e-6);
    close("v", &plain_moments.second, &fused_moments.second, 1e-6);
    close("w before", &value, &random("w", [77, 333]), 0.0);
    // Clipping within the step gives the same bits as scaling the gradient before it.
    let ones = Tensor::<1>::from_data([1.0_f32], &Device::flex());
    let (scaled, _) = FUSED.adamw(value.clone(), new(), &(gradient.clone() * 0.37), &ones, &step);
    close("w scaled", &fused, &scaled, 0.0);
    let sum = |operators: &dyn Operators| -> f64 {
        operators.sum_of_squares(&gradient).into_data().convert::<f64>().try_to_vec::<f64>().unwrap()[0]
    };
    let (plain, fused) = (sum(&Composed), sum(&FUSED));
    assert!((plain - fused).abs() < 1e-5 * plain, "{plain} {fused}");
}

/// Products of lower precision stay close to f32, with packed copies and without. A machine without the
/// instructions computes f32.
#[test]
fn quicker_products() {
    let (x, weight, d_y) = (random("x", [131, 300]), random("w", [52, 300]), random("dy", [131, 52]));
    let copies = PackedCopies::default();
    let weights = [None, Some(&copies)].map(|copies| Weight { value: &weight, copies });
    let (y, _) = FUSED.linear(&x, weights[0], None, None);
    let backward = |operators: Fused, weight, d_x: Option<Tensor<2>>| {
        let (low_rank, lora_hidden, weight_gradient) = (None, None, false);
        let arguments = LinearBackward { x: &x, weight, low_rank, lora_hidden, d_y: &d_y, d_x, weight_gradient };
        operators.linear_backward(arguments).input
    };
    let d_x = backward(FUSED, weights[0], None);
    for (precision, tolerance) in [(MatmulPrecision::High, 2e-5), (MatmulPrecision::Medium, 1e-2)] {
        let quicker = Fused::new(precision);
        // Twice with copies: the first product makes them, the second uses them.
        for weight in [weights[0], weights[1], weights[1]] {
            close("y", &y, &quicker.linear(&x, weight, None, None).0, tolerance);
            close("dx", &(d_x.clone() * 2.0), &backward(quicker, weight, Some(d_x.clone())), tolerance);
        }
        let documents = documents();
        let q = random("q", [376, 60]) * 3.0;
        let [k, v] = ["k", "v"].map(|name| random(name, [376, 20]) * 3.0);
        let attended = FUSED.attend([&q, &k, &v], HEADS, &documents);
        let quickly = quicker.attend([&q, &k, &v], HEADS, &documents);
        close("attended", &attended.rows, &quickly.rows, 2.0 * tolerance);
        let d_out = random("dout", [376, 60]);
        let expected = FUSED.attend_backward([&q, &k, &v], &attended, &d_out, HEADS, &documents);
        let gradients = quicker.attend_backward([&q, &k, &v], &quickly, &d_out, HEADS, &documents);
        for ((name, expected), gradient) in ["dq", "dk", "dv"].iter().zip(&expected).zip(&gradients) {
            close(name, expected, gradient, 4.0 * tolerance);
        }
        // A row's result does not depend on its place.
        let part = quicker.linear(&x.clone().narrow(0, 100, 31), weights[1], None, None).0;
        close("rows", &quicker.linear(&x, weights[1], None, None).0.narrow(0, 100, 31), &part, 0.0);
        // Few rows stay within the tolerance too, with and without an adapter.
        let one = x.clone().narrow(0, 100, 1);
        let [a, b] = [random("a", [4, 300]), random("b", [52, 4])];
        let adapter = LowRank { a: &a, b: &b, scale: 2.0, mask: None };
        for adapter in [None, Some(&adapter)] {
            let few = quicker.linear(&one, weights[1], adapter, None).0;
            close("one row", &FUSED.linear(&one, weights[0], adapter, None).0, &few, tolerance);
        }
        if precision == MatmulPrecision::Medium && precision.is_supported() {
            close("one row", &part.narrow(0, 0, 1), &quicker.linear(&one, weights[1], None, None).0, 0.0);
        }
    }
}
