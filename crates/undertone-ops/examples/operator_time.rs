//! Time of each operator of a training step, at the shapes of SmolLM2-135M.
//!
//! `cargo run --release --workspace --example operator_time -- TOKENS highest|high|medium [NAME]` prints the lowest
//! and the median time of 40 runs in milliseconds, and the lowest time multiplied by the operator's calls in the 30
//! blocks of the model. It takes the lowest because other programs can only add to a time.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use undertone_data::Document;
use undertone_ops::{
    Activation, AdamWStep, Heads, LinearBackward, LowRank, MatmulPrecision, Moments, NormBackward, PackedCopies,
    Rotation, Weight, operators,
};

const RUNS: usize = 40;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    undertone_ops::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokens, precision, only @ ..] = arguments.as_slice() else {
        return Err("usage: operator_time TOKENS highest|high|medium [NAME]".into());
    };
    let tokens: usize = tokens.parse()?;
    let precision: MatmulPrecision = match precision.as_str() {
        "highest" => MatmulPrecision::Highest,
        "high" => MatmulPrecision::High,
        "medium" => MatmulPrecision::Medium,
        other => return Err(format!("no precision is called `{other}`").into()),
    };
    let device = Device::flex();
    let operators = operators(&device, precision);
    let random = |rows: usize, columns: usize| Tensor::<2>::random([rows, columns], Distribution::Default, &device);
    let mut total = 0.0;
    let mut time = |name: &str, count: usize, f: &mut dyn FnMut()| {
        if only.first().is_some_and(|only| name != *only) {
            return;
        }
        f();
        let mut seconds: Vec<f64> = (0..RUNS)
            .map(|_| {
                let begun = Instant::now();
                f();
                begun.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        let (lowest, median) = (1e3 * seconds[0], 1e3 * seconds[RUNS / 2]);
        total += lowest * count as f64;
        println!("{name:<28} {lowest:>8.2} {median:>8.2} ms   × {count:>3} = {:>8.1} ms", lowest * count as f64);
    };
    const BLOCKS: usize = 30;
    let x = random(tokens, 576);
    let norm = random(1, 576);
    time("rms_norm", 4 * BLOCKS, &mut || drop(operators.rms_norm(&x, &norm, 1e-5)));
    time("rms_norm_backward", 2 * BLOCKS, &mut || {
        let (epsilon, weight_gradient) = (1e-5, false);
        let arguments = NormBackward { x: &x, weight: &norm, epsilon, d_y: &x, d_x: x.clone(), weight_gradient };
        drop(operators.rms_norm_backward(arguments));
    });
    for (name, width, out, count) in [
        ("576 to 576", 576, 576, 2),
        ("576 to 192", 576, 192, 2),
        ("576 to 1536", 576, 1536, 2),
        ("1536 to 576", 1536, 576, 1),
    ] {
        let (x, d_y, w) = (random(tokens, width), random(tokens, out), random(out, width));
        let (a, b, copies) = (random(16, width), random(out, 16), PackedCopies::default());
        let weight = Weight { value: &w, copies: Some(&copies) };
        let adapter = LowRank { a: &a, b: &b, scale: 2.0, mask: None };
        time(&format!("linear {name}"), count * BLOCKS, &mut || drop(operators.linear(&x, weight, None, None)));
        time(&format!("linear {name}, LoRA"), count * BLOCKS, &mut || {
            drop(operators.linear(&x, weight, Some(&adapter), None));
        });
        let hidden = random(tokens, 16);
        time(&format!("backward {name}, LoRA"), count * BLOCKS, &mut || {
            drop(operators.linear_backward(LinearBackward {
                x: &x,
                weight,
                low_rank: Some(adapter.clone()),
                lora_hidden: Some(&hidden),
                d_y: &d_y,
                d_x: None,
                weight_gradient: false,
            }));
        });
    }
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let rotation = Rotation::new(&positions, 64, &Rotation::frequencies(64, 1e5), 1.0, &device);
    let mut rotated = Some(x.clone() + 1.0);
    time("rotate", 4 * BLOCKS, &mut || {
        rotated = rotated.take().map(|x| operators.rotate(x, &rotation, false));
    });
    let (gate, up) = (random(tokens, 1536), random(tokens, 1536));
    let silu = Activation::Silu;
    time("gated", 2 * BLOCKS, &mut || drop(operators.gated(silu, &gate, &up)));
    time("gated_backward", BLOCKS, &mut || drop(operators.gated_backward(silu, &gate, &up, gate.clone())));
    let heads = Heads::new(9, 3, 64);
    let documents = [Document { id: String::new(), start: 0, trunk: tokens, branches: Vec::new(), tokens }];
    let (q, k, v) = (random(tokens, 576), random(tokens, 192), random(tokens, 192));
    time("attend", BLOCKS, &mut || drop(operators.attend([&q, &k, &v], heads, &documents)));
    let attended = operators.attend([&q, &k, &v], heads, &documents);
    time("attend_backward", BLOCKS, &mut || {
        drop(operators.attend_backward([&q, &k, &v], &attended, &x, heads, &documents));
    });
    let (vocabulary, copies) = (random(49_152, 576), PackedCopies::default());
    let targets: Vec<u32> = (0..tokens as u32 / 4).collect();
    let rows = random(targets.len(), 576);
    time("nats_and_gradients", 1, &mut || {
        let weight = Weight { value: &vocabulary, copies: Some(&copies) };
        drop(operators.nats_and_gradients(&rows, weight, &targets, 1.0, false));
    });
    let clip = Tensor::<1>::ones([1], &device);
    let step = AdamWStep {
        learning_rate: 1e-4,
        decay: 0.0,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        correct_first: 1.0,
        correct_second: 1.0,
    };
    let gradient = random(16, 576);
    let new = || (gradient.clone() + 1.0, Moments { first: gradient.clone() + 2.0, second: gradient.clone() + 3.0 });
    let mut state = Some(new());
    time("adamw", 14 * BLOCKS, &mut || {
        state = state.take().map(|(value, moments)| operators.adamw(value, moments, &gradient, &clip, &step));
    });
    println!("{:<28} {:>28.1} ms; counts each `linear` twice, with and without LoRA", "sum", total);
    Ok(())
}
