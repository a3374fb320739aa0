//! How long do the statistics of a study of the published size take, and how much memory? Makes up the records of 1,058
//! users, 12 arms and 9 trainings, and runs everything that a study runs on them.
//!
//! ```sh
//! cargo run --release -p undertone-stats --example scale
//! ```

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use undertone_data::TargetKind;
use undertone_stats::{
    Arms, ItemRecord, Rules, Subset, by_group, compare, heterogeneity, item_differences, measure_contrasts, measured,
    metrics, parquet,
};

const USERS: usize = 1_058;
const ITEMS: usize = 14_903;
const ARMS: usize = 12;
const FOLDS: usize = 3;
const REPEATS: usize = 3;
const SEEDS: usize = 3;
const GROUPS: usize = 10;
const TOKENS: usize = 18;

/// The records of one arm: every item once in each of three divisions into three folds.
fn records(arm: usize) -> Vec<ItemRecord> {
    let mut random = ChaCha8Rng::seed_from_u64(arm as u64);
    let mut records = Vec::with_capacity(ITEMS * REPEATS * SEEDS);
    for item in 0..ITEMS {
        let user = item % USERS;
        for repeat in 0..REPEATS {
            for seed in 0..SEEDS as u64 {
                let nats: f64 = 40.0 + 10.0 * random.random::<f64>();
                records.push(ItemRecord {
                    item: format!("user{user}_task1_conversation{}/{}/next_prompt", item / USERS, 2 * (item % 9)),
                    conversation: format!("user{user}_task1_conversation{}", item / USERS),
                    user: format!("user{user}"),
                    kind: TargetKind::NextPrompt,
                    arm: format!("arm{arm:02}"),
                    nats,
                    token_nats: vec![(nats / TOKENS as f64) as f32; TOKENS],
                    tokens: TOKENS,
                    bytes: 80,
                    label: None,
                    distractors: Vec::new(),
                    primary: item % 3 > 0,
                    quotes_target: item % 50 == 0,
                    visible_thoughts: 2,
                    lacks_words: false,
                    reply_tokens_lost: 0,
                    fold: Some(repeat * FOLDS + (user * (repeat + 1)) % FOLDS),
                    seed: Some(seed),
                });
            }
        }
    }
    records
}

/// The peak memory of this process in MiB; 0 where `/proc` does not tell it.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok()).unwrap_or_default() / 1024
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all: Vec<Vec<ItemRecord>> = (0..ARMS).map(records).collect();
    println!("{} records, {} MiB", all.iter().map(Vec::len).sum::<usize>(), peak_mib());
    let begun = Instant::now();
    let told = |what: &str| println!("{what}: {:.1} s, peak {} MiB", begun.elapsed().as_secs_f64(), peak_mib());
    let rules = Rules { margin: Some(0.01), ..Rules::default() };
    let pairs: Vec<Arms<'_>> = (1..ARMS)
        .flat_map(|arm| [(0, arm), (arm, (arm + 1) % ARMS)])
        .map(|(a, b)| Arms { a: &all[a], b: &all[b], primary: (a, b) == (0, 1) })
        .collect();
    let comparisons = compare(&pairs, rules)?;
    told(&format!("{} comparisons", comparisons.len()));
    for dimension in 0..GROUPS {
        let group = |record: &ItemRecord| Some(((record.item.len() + dimension) % 5).to_string());
        by_group(&pairs[0], rules, (TargetKind::NextPrompt, Subset::Primary), group)?;
    }
    told(&format!("{GROUPS} breakdowns"));
    heterogeneity(&item_differences(&pairs[0], (TargetKind::NextPrompt, Subset::Primary))?, rules.bootstrap);
    told("differences between users");
    for records in &all {
        metrics(records)?;
    }
    let measured = measured(&all, &[]);
    measure_contrasts(&measured, &[["arm00", "arm01"]], rules.bootstrap);
    told("metrics");
    let bytes = parquet(&all.iter().flatten().collect::<Vec<_>>())?.len();
    told(&format!("Parquet of {} MB", bytes / 1_000_000));
    Ok(())
}
