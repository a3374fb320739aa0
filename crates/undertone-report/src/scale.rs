//! Maps numbers to places in a plot, and chooses the ticks of an axis.

/// A linear axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    domain: [f64; 2],
    range: [f64; 2],
}

impl Scale {
    /// Maps `domain` to `range`, first end to first end; a domain of one point is widened.
    pub(crate) fn new(domain: [f64; 2], range: [f64; 2]) -> Self {
        let [low, high] = domain;
        let domain = if high > low { domain } else { [low - 0.5, low + 0.5] };
        Self { domain, range }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = (value - self.domain[0]) / (self.domain[1] - self.domain[0]);
        self.range[0] + share * (self.range[1] - self.range[0])
    }

    /// About `count` round numbers in the domain, each with its text in as many decimals as it needs.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.domain[1] - self.domain[0]) / count as f64;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let first = (self.domain[0] / step).ceil() as i64;
        let last = (self.domain[1] / step).floor() as i64;
        (first..=last).map(|tick| tick as f64 * step).map(|tick| (tick, text(tick, decimals))).collect()
    }
}

/// A number with a true minus sign; zero has no sign.
fn text(value: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let is_zero = digits.chars().all(|digit| digit == '0' || digit == '.');
    if value < 0.0 && !is_zero { format!("−{digits}") } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = |domain| -> Vec<String> {
            Scale::new(domain, [0.0, 1.0]).ticks(5).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(ticks([-0.21, 0.09]), ["−0.2", "−0.1", "0.0"]);
        assert_eq!(ticks([-0.06, 0.03]), ["−0.06", "−0.04", "−0.02", "0.00", "0.02"]);
        assert_eq!(ticks([0.0, 97.0]), ["0", "20", "40", "60", "80"]);
        assert_eq!(Scale::new([0.0, 2.0], [100.0, 0.0]).place(0.5), 75.0);
    }
}
