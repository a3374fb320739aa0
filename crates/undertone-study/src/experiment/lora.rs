//! Rules of `[lora]`, whose keys are those of [`LoraConfig`].

use undertone_model::LoraConfig;

use super::problem::Found;

/// The highest rank of an adapter, far above usual ranks.
const MAX_RANK: usize = 4096;

pub(super) fn rules(lora: &LoraConfig, found: &mut Found) {
    let ranks = "8 to 64 is usual; `model.method = \"full\"` trains without adapters";
    let rank = lora.rank;
    found.require(rank <= MAX_RANK, "lora.rank", format!("`rank` ({rank}) is above {MAX_RANK}"), ranks);
    found.require(rank > 0, "lora.rank", "`rank` is 0", ranks);
    found.require(
        !lora.targets.is_empty(),
        "lora.targets",
        "`lora.targets` is empty: nothing would be trained",
        "q, k, v, o, gate, up, down",
    );
    found.require(
        (0.0..1.0).contains(&lora.dropout),
        "lora.dropout",
        format!("`dropout` ({}) must be from 0 to below 1", lora.dropout),
        "0.05 is usual",
    );
    found.require(
        lora.alpha > 0.0,
        "lora.alpha",
        format!("`alpha` ({}) must be above 0", lora.alpha),
        "twice the rank is usual",
    );
    found.require_finite("lora.alpha", lora.alpha);
}
