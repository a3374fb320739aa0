//! Learning curves: the training loss of each arm by step.

use maud::{Markup, html};

use crate::forest::style;
use crate::scale::Scale;

/// One arm's curve, the mean over its trainings.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The arm.
    pub name: String,
    /// Optimiser step and loss in nats per token.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 190.0;
const BOTTOM: f64 = 44.0;

/// Six of Okabe and Ito's colours, distinguishable with any colour vision, then grey and violet.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8d91", "#9c6ade"];

/// Draws the curves as one SVG element. Each curve's name is at its end, in place of a legend.
pub fn curves(curves: &[Curve]) -> Markup {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let range = |axis: fn(&(f64, f64)) -> f64| {
        let (low, high) = points().map(axis).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        if low <= high { [low, high] } else { [0.0, 1.0] }
    };
    let x = Scale::new(range(|point| point.0), [LEFT, WIDTH - RIGHT]);
    let y = Scale::new(range(|point| point.1), [HEIGHT - BOTTOM, 16.0]);
    let place = |(step, loss): (f64, f64)| format!("{:.1},{:.1}", x.place(step), y.place(loss));
    let labels = labels(curves, &y);
    html! {
        svg.plot xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
            aria-label="Training loss by step" {
            (style())
            @for (tick, label) in y.ticks(5) {
                @let at = format!("{:.1}", y.place(tick));
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at) y2=(at) {}
                text.tick x=(LEFT - 8.0) y=(at) dy="4" text-anchor="end" { (label) }
            }
            @for (tick, label) in x.ticks(8) {
                text.tick x=(format!("{:.1}", x.place(tick))) y=(HEIGHT - BOTTOM + 18.0) text-anchor="middle" { (label) }
            }
            text.tick x=(format!("{:.1}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 6.0) text-anchor="middle" {
                "optimiser step; training loss in nats per token"
            }
            @for (index, curve) in curves.iter().enumerate() {
                @let colour = COLOURS[index % COLOURS.len()];
                polyline.curve stroke=(colour)
                    points=(curve.points.iter().map(|point| place(*point)).collect::<Vec<_>>().join(" ")) {}
                @if let Some(at) = labels[index] {
                    text x=(WIDTH - RIGHT + 8.0) y=(format!("{at:.1}")) dy="4" style=(format!("fill: {colour}")) { (curve.name) }
                }
            }
        }
    }
}

/// The y position of each curve's name: at the curve's end, moved down if another name is in the way.
fn labels(curves: &[Curve], y: &Scale) -> Vec<Option<f64>> {
    let mut ends: Vec<(usize, f64)> = curves
        .iter()
        .enumerate()
        .filter_map(|(index, curve)| curve.points.last().map(|point| (index, y.place(point.1))))
        .collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut places = vec![None; curves.len()];
    let mut free = f64::MIN;
    for (index, wanted) in ends {
        let at = wanted.max(free);
        free = at + 16.0;
        places[index] = Some(at);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_lie_on_one_another() {
        let curve = |name: &str, last: f64| Curve { name: name.into(), points: vec![(1.0, 4.0), (9.0, last)] };
        let all = [curve("none", 3.0), curve("past", 3.001), curve("oracle", 2.0)];
        let y = Scale::new([2.0, 4.0], [200.0, 0.0]);
        let places: Vec<f64> = labels(&all, &y).into_iter().flatten().collect();
        assert!((places[0] - places[1]).abs() >= 16.0, "{places:?}");
        let svg = curves(&all).into_string();
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert!(!curves(&[]).into_string().contains("NaN"));
    }
}
