//! A forest plot: one row per difference, with its interval, around a line at zero.

use maud::{Markup, html};
use undertone_stats::{Decision, Interval};

use crate::scale::Scale;

/// One line of a forest plot.
#[derive(Debug, Clone)]
pub struct ForestRow {
    /// What is compared, such as `past − none`.
    pub name: String,
    /// The difference.
    pub value: f64,
    /// Its 95 % interval, if there is one.
    pub interval: Option<Interval>,
    /// The decision, which sets the colour.
    pub decision: Decision,
    /// The numbers as text, to the right of the plot.
    pub numbers: String,
    /// Whether this is the primary comparison, drawn as a diamond.
    pub primary: bool,
}

const WIDTH: f64 = 860.0;
/// The approximate width of a letter of names and numbers.
const LETTER: f64 = 7.4;
/// The space around a text.
const GAP: f64 = 28.0;
const ROW: f64 = 34.0;
const TOP: f64 = 34.0;

/// Draws rows in their order, as an SVG element with its own style. `unit` labels the axis; the range ±`margin` is
/// shaded.
pub fn forest(rows: &[ForestRow], unit: &str, margin: Option<f64>) -> Markup {
    let ends = |row: &ForestRow| match row.interval {
        Some(Interval { low, high }) => [low, high],
        None => [row.value; 2],
    };
    let all = rows.iter().flat_map(ends).chain(rows.iter().map(|row| row.value)).chain([0.0]);
    let all = all.chain(margin.into_iter().flat_map(|margin| [-margin, margin]));
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let air = 0.06 * (high - low).max(1e-6);
    // Names and numbers each get the width of their longest text, from 120 to two fifths of the plot.
    let room = |letters: &dyn Fn(&ForestRow) -> usize| {
        let longest = rows.iter().map(letters).max().unwrap_or_default();
        (longest as f64 * LETTER + GAP).clamp(120.0, 0.4 * WIDTH)
    };
    let left = room(&|row| row.name.chars().count() + if row.primary { 2 } else { 0 });
    let right = WIDTH - room(&|row| row.numbers.chars().count());
    let scale = Scale::new([low - air, high + air], [left, right]);
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + 46.0;
    let x = |value: f64| format!("{:.1}", scale.place(value));
    html! {
        svg.plot xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
            aria-label="Differences with their 95 % intervals" {
            (style())
            text.faint x=(x(0.0)) y="16" text-anchor="end" dx="-8" { "← better" }
            text.faint x=(x(0.0)) y="16" dx="8" { "worse →" }
            @if let Some(margin) = margin {
                @let width = scale.place(margin) - scale.place(-margin);
                rect.margin x=(x(-margin)) y=(TOP - 8.0) width=(format!("{width:.1}")) height=(bottom - TOP + 8.0) {
                    title { "declared margin of a tie" }
                }
            }
            @for (tick, label) in scale.ticks(6) {
                line.grid x1=(x(tick)) x2=(x(tick)) y1=(TOP - 8.0) y2=(bottom) {}
                text.tick x=(x(tick)) y=(bottom + 18.0) text-anchor="middle" { (label) }
            }
            line.zero x1=(x(0.0)) x2=(x(0.0)) y1=(TOP - 8.0) y2=(bottom) {}
            text.tick x=(format!("{:.1}", (left + right) / 2.0)) y=(bottom + 38.0) text-anchor="middle" { (unit) }
            @for (index, row) in rows.iter().enumerate() {
                @let y = TOP + ROW * (index as f64 + 0.5);
                g class=(row.decision.to_string()) {
                    text.name x=(left - GAP / 2.0) y=(y + 4.0) text-anchor="end" { (row.name) @if row.primary { " ★" } }
                    @if let Some(Interval { low, high }) = row.interval {
                        line.interval x1=(x(low)) x2=(x(high)) y1=(y) y2=(y) {}
                        @for end in [low, high] { line.interval x1=(x(end)) x2=(x(end)) y1=(y - 4.0) y2=(y + 4.0) {} }
                    }
                    @if row.primary {
                        path.point d=(diamond(scale.place(row.value), y)) {}
                    } @else {
                        circle.point cx=(x(row.value)) cy=(y) r="4.5" {}
                    }
                    text.numbers x=(right + GAP / 2.0) y=(y + 4.0) { (row.numbers) }
                }
            }
        }
    }
}

fn diamond(x: f64, y: f64) -> String {
    format!("M{:.1} {y} L{x:.1} {:.1} L{:.1} {y} L{x:.1} {:.1} Z", x - 8.0, y - 6.0, x + 8.0, y + 6.0)
}

/// The style of a plot, with colours for light and dark; a plot in its own file has no access to the page's variables.
pub(crate) fn style() -> Markup {
    html! {
        style {
            (maud::PreEscaped(include_str!("../assets/plot.css")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_every_row_is_drawn() {
        let row = |name: &str, value: f64, primary| ForestRow {
            name: name.into(),
            value,
            interval: Some(Interval { low: value - 0.1, high: value + 0.1 }),
            decision: Decision::Undecided,
            numbers: "−0.050".into(),
            primary,
        };
        let rows = [row("<script>alert(1)</script>", -0.05, true), row("b", 0.2, false)];
        let svg = forest(&rows, "nats per token", Some(0.01)).into_string();
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script"), "{svg}");
        assert_eq!(svg.matches("class=\"point\"").count(), 2);
        assert_eq!(svg.matches("class=\"interval\"").count(), 6);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn nothing_to_show_is_still_a_plot() {
        let alone = ForestRow {
            name: "one user".into(),
            value: 0.0,
            interval: None,
            decision: Decision::Undecided,
            numbers: String::new(),
            primary: false,
        };
        for rows in [&[][..], &[alone]] {
            let svg = forest(rows, "nats per token", None).into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
