//! The process's memory: how much it has, how much a training needs, and how much there is.

use undertone_model::{Decoder, Recompute};

const MIB: f64 = 1_048_576.0;

/// What the program needs beside tensors: code, conversations, buffers.
const BESIDES_MIB: f64 = 60.0;

/// Resident memory now, in MiB; 0 if the system does not report it.
pub(crate) fn resident_mib() -> f64 {
    memory_stats::memory_stats().map_or(0.0, |stats| stats.physical_mem as f64 / MIB)
}

/// Peak resident memory so far, in MiB; only Linux reports it.
pub fn peak_mib() -> Option<f64> {
    kib_in("/proc/self/status", "VmHWM:").map(|kib| kib / 1024.0)
}

/// The memory that a process can have now without swapping, in MiB: what the system has left, and what its container allows.
/// Only Linux reports it.
pub fn available_mib() -> Option<f64> {
    let system = kib_in("/proc/meminfo", "MemAvailable:")? / 1024.0;
    let bytes = |name: &str| -> Option<f64> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse().ok()
    };
    // `memory.max` is `max` where there is no limit.
    let container = bytes("memory.max").zip(bytes("memory.current")).map(|(most, used)| (most - used) / MIB);
    Some(container.map_or(system, |container| container.min(system)))
}

fn kib_in(path: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find(|line| line.starts_with(key))?.split_whitespace().nth(1)?.parse().ok()
}

/// About how much memory a training of `decoder` needs, in MiB, if its longest row has `row_tokens` tokens: weights, gradients,
/// moments, what is kept of the forward pass, and a checkpoint that is written. On the CPU; `experiments/LOG.md` compares it with what was
/// measured.
pub fn needed_mib(decoder: &Decoder, row_tokens: usize, recompute: Recompute) -> f64 {
    let elements = |trainable: bool| -> f64 {
        let parameters = decoder.parameters().into_iter().filter(|one| !trainable || one.trainable);
        parameters.map(|one| one.value().dims().iter().product::<usize>() as f64).sum()
    };
    let (all, trained) = (elements(false), elements(true));
    let config = &decoder.config;
    let (width, inner) = (config.hidden_size as f64, config.intermediate_size as f64);
    let heads = (config.query_width() + 2 * config.key_value_width()) as f64;
    // Norms, residuals and attention's output; queries, keys and values; gate and up.
    let block = 4.0 * width + heads + 2.0 * inner;
    let blocks = config.layers.len() as f64;
    let kept = match recompute {
        Recompute::Off => (blocks + 2.0) * block,
        Recompute::Blocks => blocks * width + 3.0 * block,
    };
    let training = all + 3.0 * trained + row_tokens as f64 * kept;
    // A checkpoint is put together in memory: weights and both moments, then the same as one file.
    let saving = all + 3.0 * trained + 6.0 * trained;
    // While a model is loaded, each weight is there twice.
    let loading = 2.0 * all;
    4.0 * training.max(loading).max(saving) / MIB + BESIDES_MIB
}
