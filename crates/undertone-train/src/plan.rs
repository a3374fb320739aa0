//! The windows of each optimiser step, fixed before any view is applied.
//!
//! The order depends on the windows' ids and the seed alone, so all arms of a study take the same
//! steps over the same windows in the same order.

use rand::seq::SliceRandom;
use undertone_data::generator;

/// The steps of a whole run: indices into the training windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One list of window indices per step.
    pub steps: Vec<Vec<usize>>,
    /// Steps in one epoch.
    pub steps_per_epoch: usize,
}

impl Plan {
    /// A fresh order each epoch; the last step of an epoch may be smaller.
    pub fn new(ids: &[String], epochs: usize, windows_per_step: usize, seed: u64) -> Self {
        assert!(windows_per_step > 0, "a step has at least one window");
        let mut by_id: Vec<usize> = (0..ids.len()).collect();
        by_id.sort_by_key(|&index| &ids[index]);
        let mut steps = Vec::new();
        for epoch in 0..epochs {
            let mut order = by_id.clone();
            order.shuffle(&mut generator("order", &[&seed.to_string(), &epoch.to_string()]));
            steps.extend(order.chunks(windows_per_step).map(<[usize]>::to_vec));
        }
        Self { steps, steps_per_epoch: ids.len().div_ceil(windows_per_step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_is_a_fresh_permutation_that_ignores_the_order_of_reading() {
        let ids: Vec<String> = (0..10).map(|index| format!("window{index}")).collect();
        let plan = Plan::new(&ids, 2, 4, 7);
        assert_eq!(plan.steps.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2]);
        let epoch = |range: std::ops::Range<usize>| plan.steps[range].concat();
        assert_ne!(epoch(0..3), epoch(3..6));
        let mut sorted = epoch(3..6);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());

        let reversed: Vec<String> = ids.iter().rev().cloned().collect();
        let mirrored = Plan::new(&reversed, 2, 4, 7);
        let named =
            |plan: &Plan, ids: &[String]| plan.steps.concat().into_iter().map(|i| ids[i].clone()).collect::<Vec<_>>();
        assert_eq!(named(&plan, &ids), named(&mirrored, &reversed));
    }
}
