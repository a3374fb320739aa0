//! The variance between trainings, estimated from users who are tested in several of them.
//!
//! The model of a user's difference per token, y = μ + a(user) + b(training) + e(user, training), has crossed random
//! effects. Trainings differ in the seed if there is one fold, and otherwise in the fold: each division into folds
//! trains on other users, and the seeds of a fold share its users, so they are averaged. The estimators are Henderson's
//! method 3 (Searle, Casella and McCulloch 1992, *Variance Components*, section 5.5): sums of squares of a weighted
//! least-squares fit, equated with their expectations.

use std::collections::BTreeSet;

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::users::UserSums;
use super::weighted::WeightedMean;

/// How much of the variance of the rest is subtracted from the variance between trainings. All of it gives an estimate
/// without bias, which is 0 too often if there are few trainings, and then the interval is too narrow; none of it is
/// Clark's min F′ (1973), which is too wide. Half keeps the level; see `docs/level.md`.
const SUBTRACTED_REST: f64 = 0.5;

/// The standard deviations of the random effects on one user's difference, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Components {
    /// Between users; if each user is tested in one training, the rest is in it.
    pub user: f64,
    /// Between trainings.
    pub training: f64,
    /// What is left, between a user's trainings; `None` if each user is tested in one training.
    pub rest: Option<f64>,
}

/// The part of the variance of R that comes from trainings.
#[derive(Debug, Clone, Copy)]
pub(super) struct BetweenTrainings {
    /// The variance of R, users and trainings together.
    pub(super) total: f64,
    /// The part of it that comes from trainings.
    pub(super) of_trainings: f64,
    /// The degrees of freedom of that part.
    pub(super) freedom: f64,
    /// Whether the trainings alone are the independent units, because each user is tested in one of them.
    pub(super) is_nested: bool,
    pub(super) components: Components,
    /// How many trainings there are.
    pub(super) trainings: usize,
}

/// The differences of one user: tokens, and nats per token in each of its trainings.
struct Tested {
    tokens: f64,
    /// Pairs of training and difference.
    cells: Vec<(usize, f64)>,
}

impl Tested {
    fn mean(&self) -> f64 {
        self.cells.iter().map(|(_, y)| y).sum::<f64>() / self.cells.len() as f64
    }
}

impl BetweenTrainings {
    /// The variance between trainings; `None` with one training. `by_user` is the weighted mean of users.
    pub(super) fn of(users: &[UserSums], by_user: &WeightedMean) -> Option<Self> {
        let (tested, trainings) = tested(users);
        if trainings < 2 {
            return None;
        }
        match tested.iter().all(|user| user.cells.len() == 1) {
            true => Some(nested(&tested, trainings, by_user)),
            false => Some(crossed(&tested, trainings, by_user)),
        }
    }
}

/// The users with their trainings, and the number of trainings: the seeds of the only fold, or the folds.
fn tested(users: &[UserSums]) -> (Vec<Tested>, usize) {
    let folds: BTreeSet<usize> = users.iter().flat_map(|user| &user.cells).map(|cell| cell.fold).collect();
    let folds = Vec::from_iter(folds);
    let mean = |nats: &[f64]| nats.iter().sum::<f64>() / nats.len() as f64;
    let one = |user: &UserSums| {
        let tokens = user.tokens as f64;
        let cells = match folds.len() {
            1 => user.cells[0].nats.iter().map(|nats| nats / tokens).enumerate().collect(),
            _ => {
                let place = |fold| folds.binary_search(&fold).expect("the fold of a cell");
                user.cells.iter().map(|cell| (place(cell.fold), mean(&cell.nats) / tokens)).collect()
            }
        };
        Tested { tokens, cells }
    };
    let trainings = if folds.len() == 1 { users[0].cells[0].nats.len() } else { folds.len() };
    (users.iter().map(one).collect(), trainings)
}

/// Each user is tested in one training: the trainings are independent units, and contain the users.
fn nested(users: &[Tested], trainings: usize, by_user: &WeightedMean) -> BetweenTrainings {
    let mut units = vec![(0.0, 0.0); trainings];
    for Tested { tokens, cells } in users {
        let (training, y) = cells[0];
        units[training].0 += tokens;
        units[training].1 += tokens * y;
    }
    units.iter_mut().for_each(|(tokens, nats)| *nats /= *tokens);
    let by_training = WeightedMean::new(&units);
    let squares: f64 =
        users.iter().map(|user| user.tokens * (user.cells[0].1 - units[user.cells[0].0].1).powi(2)).sum();
    let spent: f64 = users.iter().map(|user| user.tokens * user.tokens / units[user.cells[0].0].0).sum();
    let left = users.iter().map(|user| user.tokens).sum::<f64>() - spent;
    let user = if left > 0.0 { squares / left } else { 0.0 };
    let training = (by_training.variance - user * by_user.concentration).max(0.0) / by_training.concentration;
    BetweenTrainings {
        total: by_training.variance,
        of_trainings: training * by_training.concentration,
        freedom: by_training.freedom,
        is_nested: true,
        components: Components { user: user.sqrt(), training: training.sqrt(), rest: None },
        trainings,
    }
}

/// Users and trainings are crossed: each user is tested in several trainings, and each training on several users.
fn crossed(users: &[Tested], trainings: usize, by_user: &WeightedMean) -> BetweenTrainings {
    let total: f64 = users.iter().map(|user| user.tokens).sum();
    // The normal equations of the trainings' effects b, with the users' effects eliminated: L b = d.
    let mut laplacian = DMatrix::<f64>::zeros(trainings, trainings);
    let mut deviations = DVector::<f64>::zeros(trainings);
    // The share of each training in R.
    let mut shares = vec![0.0; trainings];
    for user in users {
        let (count, mean) = (user.cells.len() as f64, user.mean());
        for (training, y) in &user.cells {
            laplacian[(*training, *training)] += user.tokens;
            deviations[*training] += user.tokens * (y - mean);
            shares[*training] += user.tokens / total / count;
            for (other, _) in &user.cells {
                laplacian[(*training, *other)] -= user.tokens / count;
            }
        }
    }
    let trace = laplacian.trace();
    let freedom = trace * trace / laplacian.norm_squared();
    let tolerance = 1e-9 * laplacian.amax();
    let inverse = laplacian.pseudo_inverse(tolerance).expect("the tolerance is not negative");
    let effects = &inverse * &deviations;
    let explained = effects.dot(&deviations);
    // What the rest adds to the explained sum of squares, and the rest itself, from the residuals of the fit.
    let (mut of_rest, mut squares, mut left) = (0.0, 0.0, 0.0);
    for user in users {
        let (count, mean) = (user.cells.len() as f64, user.mean());
        let effect = user.cells.iter().map(|(training, _)| effects[*training]).sum::<f64>() / count;
        let residual = |&(training, y): &(usize, f64)| (training, (y - mean) - (effects[training] - effect));
        let residuals: Vec<(usize, f64)> = user.cells.iter().map(residual).collect();
        let form =
            |&(one, r): &(usize, f64)| residuals.iter().map(|(other, s)| r * s * inverse[(one, *other)]).sum::<f64>();
        of_rest += user.tokens * user.tokens * residuals.iter().map(form).sum::<f64>();
        squares += user.tokens * residuals.iter().map(|(_, r)| r * r).sum::<f64>();
        left += user.tokens * (count - 1.0);
    }
    let few = users.len() as f64 / (users.len() as f64 - 1.0);
    let rest = few * squares / left;
    let between = |subtracted: f64| (explained - subtracted * few * of_rest).max(0.0) / trace;
    // The variance of R from trainings that the variance between users does not hold already.
    let own: f64 = shares.iter().map(|share| share * share).sum();
    let held = |(user, factor): (&Tested, &f64)| {
        let count = user.cells.len() as f64;
        let shared: f64 = user.cells.iter().map(|(training, _)| shares[*training]).sum();
        factor * (1.0 / count - 2.0 * shared / count + own)
    };
    let held: f64 = users.iter().zip(&by_user.factors).map(held).sum();
    let of_trainings = (own - held).max(0.0) * between(SUBTRACTED_REST);
    let cells = users.iter().map(|user| user.cells.len() as f64).sum::<f64>() / users.len() as f64;
    let user = (by_user.variance - held * between(1.0)) / by_user.concentration - rest / cells;
    let components = Components { user: user.max(0.0).sqrt(), training: between(1.0).sqrt(), rest: Some(rest.sqrt()) };
    BetweenTrainings {
        total: by_user.variance + of_trainings,
        of_trainings,
        freedom,
        is_nested: false,
        components,
        trainings,
    }
}
