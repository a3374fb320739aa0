//! Single flipped bits, in every file that a study keeps.

use rand::RngExt;
use undertone_testing::program::Workplace;

use super::{Outcome, STUDY, random, tries};

/// Flips `tries` bits in the files whose names `is_meant` accepts; each must be found by `verify` and by its readers.
fn flip(tries: usize, purpose: u64, is_meant: fn(&str) -> bool) -> usize {
    let place = Workplace::new(12);
    place.run(&format!("{STUDY} --register")).succeeded();
    place.run(STUDY).succeeded();
    let names: Vec<String> = place.files("out/tiny").into_keys().filter(|name| is_meant(name)).collect();
    assert!(!names.is_empty());
    let mut random = random(purpose);
    for _ in 0..tries {
        let name = format!("out/tiny/{}", names[random.random_range(0..names.len())]);
        let good = place.read(&name);
        let (byte, bit) = (random.random_range(0..good.len()), random.random_range(0..8));
        let mut flipped = good.clone();
        flipped[byte] ^= 1 << bit;
        place.write(&name, flipped);
        let what = format!("bit {bit} of byte {byte} of `{name}`");
        let ran = place.run("verify out/tiny");
        // A checksum's own spelling may change its case and say the same; nothing else may pass.
        assert_eq!(ran.status.code(), Some(2), "{what}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("error: `{name}`")), "{what}: {}", ran.stderr);
        if name.ends_with("best.safetensors") {
            for command in ["evaluate FILE", "predict FILE data.jsonl", "export FILE exported"] {
                let ran = place.run(&command.replace("FILE", &name));
                assert_eq!(ran.status.code(), Some(2), "{what}: {command}: {}", ran.stderr);
            }
        }
        place.write(&name, good);
    }
    place.run("verify out/tiny").succeeded();
    tries
}

pub(crate) fn flipped_in_checkpoints() -> Option<Outcome> {
    let tries = flip(tries(20, 300), 11, |name| name.ends_with(".safetensors"));
    let lost = "nothing: every one is refused, by `verify` and by each reader".to_owned();
    Some(Outcome { fault: "one flipped bit in a checkpoint", tries, lost })
}

pub(crate) fn flipped_in_other_files() -> Option<Outcome> {
    let is_meant = |name: &str| {
        let without = ["/", "log.jsonl", ".lock", ".safetensors"];
        !without.iter().any(|end| name.ends_with(end)) && !name.contains("tensorboard/")
    };
    let tries = flip(tries(20, 300), 12, is_meant);
    let lost = "nothing: every one is refused".to_owned();
    Some(Outcome { fault: "one flipped bit in records, results, reports or what the study has fixed", tries, lost })
}
