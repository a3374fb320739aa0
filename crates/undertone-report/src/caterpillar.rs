//! A caterpillar plot: every user's difference with its interval, sorted.

use maud::{Markup, html};
use undertone_stats::{Interval, UserDifference};

use crate::forest::style;
use crate::scale::Scale;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;

/// Draws the users in their order as one SVG element.
pub fn caterpillar(users: &[UserDifference]) -> Markup {
    let ends = |user: &UserDifference| {
        let Interval { low, high } = user.interval;
        [low, high]
    };
    let (low, high) =
        users.iter().flat_map(ends).chain([0.0]).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let y = Scale::new([low, high], [HEIGHT - BOTTOM, TOP]);
    let x = |place: usize| LEFT + (WIDTH - LEFT - RIGHT) * (place as f64 + 0.5) / users.len().max(1) as f64;
    let at = |value: f64| format!("{:.1}", y.place(value));
    html! {
        svg.plot xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
            aria-label="Users' own differences with their 95 % intervals" {
            (style())
            @for (tick, label) in y.ticks(6) {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(tick)) y2=(at(tick)) {}
                text.tick x=(LEFT - 8.0) y=(at(tick)) dy="4" text-anchor="end" { (label) }
            }
            line.zero x1=(LEFT) x2=(WIDTH - RIGHT) y1=(at(0.0)) y2=(at(0.0)) {}
            @for (place, user) in users.iter().enumerate() {
                @let [low, high] = ends(user);
                g {
                    title { (user.user) }
                    line.interval x1=(format!("{:.1}", x(place))) x2=(format!("{:.1}", x(place))) y1=(at(low)) y2=(at(high)) {}
                    circle.point cx=(format!("{:.1}", x(place))) cy=(at(user.shrunk)) r="3" {}
                }
            }
            text.tick x=(format!("{:.1}", (LEFT + WIDTH - RIGHT) / 2.0)) y=(HEIGHT - 10.0) text-anchor="middle" {
                "users, largest help first; difference in nats per token, shrunk; below zero, b is better"
            }
        }
    }
}
