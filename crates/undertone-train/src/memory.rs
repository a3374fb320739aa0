//! The process's memory.

/// Resident memory now, in MiB; 0 if the system does not report it.
pub(crate) fn resident_mib() -> f64 {
    memory_stats::memory_stats().map_or(0.0, |stats| stats.physical_mem as f64 / 1_048_576.0)
}

/// Peak resident memory so far, in MiB; only Linux reports it.
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
