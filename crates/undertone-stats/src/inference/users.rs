//! What each user adds to a ratio of sums.

use std::collections::BTreeMap;

/// What one user adds to a ratio of sums.
#[derive(Debug, Clone, PartialEq)]
pub struct UserSums {
    /// The numerator for each training seed: nats, or differences of nats between two arms, summed over the
    /// user's items.
    pub nats: Vec<f64>,
    /// The denominator: tokens, summed over the same items; not 0.
    pub tokens: usize,
}

impl UserSums {
    /// The mean of the numerator over seeds.
    pub(crate) fn mean_nats(&self) -> f64 {
        self.nats.iter().sum::<f64>() / self.nats.len() as f64
    }

    /// The user's own ratios, in nats per token, as if they were sums over one token.
    pub(crate) fn of_one_token(&self) -> Self {
        Self { nats: self.nats.iter().map(|nats| nats / self.tokens as f64).collect(), tokens: 1 }
    }
}

/// Sums items by user. An item is its user, its nats for each seed, and its tokens. Users are sorted by name;
/// items are added in the order given.
///
/// # Panics
/// If items have different numbers of seeds.
pub fn sum_by_user<'a>(items: impl IntoIterator<Item = (&'a str, Vec<f64>, usize)>) -> Vec<UserSums> {
    let mut users: BTreeMap<&str, UserSums> = BTreeMap::new();
    for (user, nats, tokens) in items {
        let sums = users.entry(user).or_insert_with(|| UserSums { nats: vec![0.0; nats.len()], tokens: 0 });
        assert_eq!(sums.nats.len(), nats.len(), "seeds of an item of {user}");
        sums.nats.iter_mut().zip(nats).for_each(|(sum, nats)| *sum += nats);
        sums.tokens += tokens;
    }
    users.into_values().collect()
}

/// Σ nats / Σ tokens, in nats per token, the mean over seeds; `None` without users.
pub fn ratio(users: &[UserSums]) -> Option<f64> {
    let nats: f64 = users.iter().map(UserSums::mean_nats).sum();
    let tokens: usize = users.iter().map(|user| user.tokens).sum();
    (tokens > 0).then(|| nats / tokens as f64)
}

/// The mean over users of each user's nats per token; `None` without users.
pub fn mean_of_user_means(users: &[UserSums]) -> Option<f64> {
    ratio(&users.iter().map(UserSums::of_one_token).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_summed_whatever_the_order() {
        let items = [("b", vec![1.0, 2.0], 2), ("a", vec![3.0, 3.0], 4), ("b", vec![5.0, 7.0], 6)];
        let expected = [UserSums { nats: vec![3.0, 3.0], tokens: 4 }, UserSums { nats: vec![6.0, 9.0], tokens: 8 }];
        let users = sum_by_user(items);
        assert_eq!(users, expected);
        assert_eq!(ratio(&users), Some(10.5 / 12.0));
        assert_eq!(mean_of_user_means(&users), Some((0.75 + 7.5 / 8.0) / 2.0));
        assert_eq!(ratio(&[]), None);
    }
}
