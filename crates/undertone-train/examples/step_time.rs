//! Time and peak memory of one AdamW step on one row: of LoRA (rank 16 on all seven linear layers), or of all weights.
//!
//! ```text
//! cargo run --release --workspace --example step_time -- \
//!     MODEL_FOLDER DEVICE PRECISION TOKENS blocks|off lora|full [STEPS]
//! ```
//!
//! It prints one JSON line. A quarter of the row's tokens are supervised, in spans of 16. The peak is that of
//! the whole process, so run one configuration per process.

use std::path::Path;
use std::time::Instant;

use undertone_data::{Item, Row, Stream, Target, TargetKind};
use undertone_model::{Decoder, DeviceName, Gradients, LoraConfig, MatmulPrecision, Recompute, values};
use undertone_train::{AdamW, TrainingConfig, Update, clip_factor, global_norm, peak_mib};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    undertone_model::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, device, precision, tokens, recompute, method, rest @ ..] = arguments.as_slice() else {
        return Err("usage: step_time MODEL_FOLDER DEVICE PRECISION TOKENS blocks|off lora|full [STEPS]".into());
    };
    let device: DeviceName = serde_json::from_value(device.as_str().into())?;
    let precision: MatmulPrecision = serde_json::from_value(precision.as_str().into())?;
    let recompute: Recompute = serde_json::from_value(recompute.as_str().into())?;
    let tokens: usize = tokens.parse()?;
    let steps: usize = rest.first().map_or(Ok(5), |steps| steps.parse())?;
    let mut decoder = Decoder::load(Path::new(folder), &device.open()?)?;
    decoder.set_precision(precision);
    match method.as_str() {
        "lora" => decoder.add_adapters(&LoraConfig::default(), 0),
        "full" => decoder.train_all(),
        other => return Err(format!("`{other}` is neither `lora` nor `full`").into()),
    }
    let row = row(tokens, decoder.config.vocab_size);
    let config = TrainingConfig::default();
    let mut optimizer = AdamW::default();
    let (mut seconds, mut loss) = (Vec::new(), 0.0);
    for step in 0..=steps {
        let begun = Instant::now();
        let mut gradients = Gradients::default();
        let scale = 1.0 / row.supervised().len() as f64;
        let nats = decoder.nats_and_gradients(&row, scale, recompute, None, &mut gradients);
        let clip = clip_factor(&global_norm(&decoder, &gradients), config.clip_norm);
        optimizer.step(&mut decoder, Update { gradients, clip, learning_rate: 1e-4, step }, &config);
        let nats = values(nats.expect("some tokens are supervised"));
        loss = nats.into_iter().map(f64::from).sum::<f64>() * scale;
        decoder.device().sync()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    // The first step warms up.
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{}",
        serde_json::json!({
            "device": device.to_string(), "precision": precision, "tokens": tokens, "recompute": recompute,
            "method": method, "steps": steps,
            "median_seconds": median, "tokens_per_second": tokens as f64 / median, "peak_mib": peak_mib(), "loss": loss,
        })
    );
    Ok(())
}

fn row(tokens: usize, vocabulary: usize) -> Row {
    let target = |start: usize| Target {
        item: Item { conversation: "made".into(), message: start, kind: TargetKind::NextPrompt, thought: 0 },
        candidate: None,
        span: start..start + 16,
        bytes: 64,
        seen: Vec::new(),
        lacks_words: false,
        reply_tokens_lost: 0,
        quoted: false,
        earlier_user_messages: 1,
    };
    Row::of([&Stream {
        id: "made".into(),
        user: "made".into(),
        tokens: (0..tokens).map(|index| (index * 7919 % vocabulary) as u32).collect(),
        trunk: tokens,
        branches: Vec::new(),
        targets: (48..tokens.saturating_sub(15)).step_by(64).map(target).collect(),
        pieces: Vec::new(),
        hidden: Default::default(),
    }])
}
