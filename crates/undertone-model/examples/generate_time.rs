//! Measures the speed of greedy generation with the cache.
//!
//! ```text
//! cargo run --release --workspace --example generate_time -- \
//!     MODEL_FOLDER DEVICE PRECISION PROMPT_TOKENS NEW_TOKENS [RUNS [TEXTS]]
//! ```
//!
//! Prints one JSON line: the median of the runs after the first, and the ids, which a program under comparison must
//! generate too. Several texts are generated as a batch.

use std::path::Path;
use std::time::Instant;

use undertone_model::{Cache, Decoder, DeviceName, MatmulPrecision, Opening, Sampling};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    undertone_model::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, device, precision, prompt, new, rest @ ..] = arguments.as_slice() else {
        return Err("usage: generate_time MODEL_FOLDER DEVICE PRECISION PROMPT_TOKENS NEW_TOKENS [RUNS [TEXTS]]".into());
    };
    let device: DeviceName = serde_json::from_value(device.as_str().into())?;
    let precision: MatmulPrecision = serde_json::from_value(precision.as_str().into())?;
    let (prompt, new): (usize, usize) = (prompt.parse()?, new.parse()?);
    let runs: usize = rest.first().map_or(Ok(3), |runs| runs.parse())?;
    let texts: usize = rest.get(1).map_or(Ok(1), |texts| texts.parse())?;
    let mut decoder = Decoder::load(Path::new(folder), &device.open()?)?;
    decoder.set_precision(precision);
    let vocabulary = decoder.config.vocab_size;
    let prompt: Vec<u32> = (0..prompt).map(|index| (index * 7919 % vocabulary) as u32).collect();
    // No token is the end token.
    let end = u32::MAX;
    let (mut seconds, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..=runs {
        let begun = Instant::now();
        let sampling = Sampling { max_new_tokens: new, ..Sampling::default() };
        let opening = Opening { cache: Cache::default(), prompt: prompt.clone(), sampling };
        ids = decoder.generate_all(vec![opening; texts], end).swap_remove(0).0;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{}",
        serde_json::json!({ "tokens_per_second": (texts * ids.len()) as f64 / median, "median_seconds": median, "ids": ids })
    );
    Ok(())
}
