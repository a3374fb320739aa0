//! The weighted mean of independent units with a variance that is unbiased for few and unequal units (CR2).

/// The estimate of the variance of a weighted mean of independent units.
///
/// The variance is CR2 of Bell and McCaffrey (2002) for a regression on a constant with one unit per cluster: each
/// squared residual is divided by the share of it that is expected if all units have the same variance.
///
/// Satterthwaite's degrees of freedom under the same model (Pustejovsky and Tipton 2018) make intervals of few unequal
/// units too wide: with 6 to 12 units of log-normal weight, they cover 96.5 to 97.3 %; the effective number of units
/// less one makes them too narrow, 94.4 to 94.9 %. The mean of the two covers 95.0 to 96.1 %; it is taken if it is the larger. With equal weights, all are
/// those of the ordinary mean.
#[derive(Debug, Clone)]
pub(super) struct WeightedMean {
    /// The estimated variance of Σ wx / Σ w.
    pub(super) variance: f64,
    /// The degrees of freedom of the variance.
    pub(super) freedom: f64,
    /// Σ s² over the units' shares s of all weight: one divided by the effective number of units.
    pub(super) concentration: f64,
    /// For each unit, what its squared residual is multiplied by in the variance.
    pub(super) factors: Vec<f64>,
}

impl WeightedMean {
    /// The mean of at least two units, as pairs of weight and number. All weights are above zero.
    pub(super) fn new(units: &[(f64, f64)]) -> Self {
        let total: f64 = units.iter().map(|(weight, _)| weight).sum();
        let shares: Vec<f64> = units.iter().map(|(weight, _)| weight / total).collect();
        let value: f64 = shares.iter().zip(units).map(|(share, (_, x))| share * x).sum();
        let concentration: f64 = shares.iter().map(|share| share * share).sum();
        // The variance of a residual, if each unit has variance 1.
        let expected = |share: f64| 1.0 - 2.0 * share + concentration;
        let factors: Vec<f64> = shares.iter().map(|share| share * share / expected(*share)).collect();
        let variance = factors.iter().zip(units).map(|(factor, (_, x))| factor * (x - value).powi(2)).sum();
        // E V = Σ cᵢ Var(rᵢ) and Var V = 2 Σᵢⱼ cᵢ cⱼ Cov(rᵢ, rⱼ)², with Cov(rᵢ, rⱼ) = h − sᵢ − sⱼ for i ≠ j. The sums over
        // pairs are products of sums over units.
        let sum =
            |power: i32| factors.iter().zip(&shares).map(|(factor, share)| factor * share.powi(power)).sum::<f64>();
        let (c0, c1, c2, h) = (sum(0), sum(1), sum(2), concentration);
        let all_pairs = h * h * c0 * c0 - 4.0 * h * c0 * c1 + 2.0 * c0 * c2 + 2.0 * c1 * c1;
        let diagonal =
            |(factor, share): (&f64, &f64)| factor * factor * (expected(*share).powi(2) - (h - 2.0 * share).powi(2));
        let spread = 2.0 * (all_pairs + factors.iter().zip(&shares).map(diagonal).sum::<f64>());
        let satterthwaite = 2.0 * h * h / spread;
        let freedom = satterthwaite.max(f64::midpoint(satterthwaite, 1.0 / h - 1.0));
        Self { variance, freedom, concentration, factors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_equal_weights_it_is_the_ordinary_mean() {
        let mean = WeightedMean::new(&[(3.0, 1.0), (3.0, 2.0), (3.0, 6.0)]);
        // The sample variance is 7.
        assert!((mean.variance - 7.0 / 3.0).abs() < 1e-14, "{mean:?}");
        assert!((mean.freedom - 2.0).abs() < 1e-12, "{mean:?}");
    }

    #[test]
    fn with_unequal_weights_it_is_that_of_its_definition() {
        // In numpy: p = w / sum(w); h = sum(p**2); c = p**2 / (1 - 2 p + h); cov = eye - p - p' + h;
        // V = sum(c (x - p @ x)**2); Satterthwaite = 2 (sum(c diag(cov)))**2 / (2 sum(outer(c, c) cov**2)).
        let mean = WeightedMean::new(&[(1.0, 0.5), (2.0, -1.0), (4.0, 2.0), (9.0, 0.25)]);
        assert!((mean.variance - VARIANCE).abs() < 1e-12, "{mean:?}");
        let effective = 1.0 / mean.concentration - 1.0;
        assert!((mean.freedom - (SATTERTHWAITE + effective) / 2.0).abs() < 1e-12, "{mean:?}");
    }

    const VARIANCE: f64 = 0.281_438_643_257_674_87;
    const SATTERTHWAITE: f64 = 1.176_956_677_667_406_7;
}
