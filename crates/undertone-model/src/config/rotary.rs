//! Rotary positions: the frequency of each pair of elements of a head, scaled as `config.json` asks.
//!
//! The methods and their formulas are those of `modeling_rope_utils.py` in transformers; numbers are computed in f32 in
//! its order.

use std::f64::consts::PI;
use std::fmt;

use serde_json::{Map, Value};
use undertone_files::InputError;
use undertone_ops::Rotation;

use super::keys::{Keys, shown};

/// How a longer context changes the frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Positions are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The base grows with the length of a text beyond `max_position_embeddings`. No text here is longer, so that nothing
    /// changes.
    Dynamic,
    /// Low frequencies are divided by a factor, high ones stay (Llama 3.1, arXiv 2407.21783).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above the original context over this are scaled.
        low: f64,
        /// Wavelengths below the original context over this stay.
        high: f64,
        /// The context before, in tokens.
        original: f64,
    },
    /// As Llama 3's, by pairs instead of wavelengths; scores grow (YaRN, arXiv 2309.00071).
    Yarn {
        /// The factor.
        factor: f64,
        /// The first and the last pair between scaled and not.
        ramp: [f64; 2],
        /// The factor of cosines and sines.
        attention: f64,
        /// The context before, in tokens.
        original: f64,
    },
}

/// The rotary positions of some blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// The base of the frequencies.
    pub theta: f64,
    /// Elements of a head that are rotated; even.
    pub width: usize,
    /// How they are scaled.
    pub scaling: Scaling,
}

impl Rotary {
    /// Radians per position for each pair, `[width / 2]`.
    pub fn frequencies(&self) -> Vec<f32> {
        let plain = Rotation::frequencies(self.width, self.theta);
        match self.scaling {
            Scaling::None | Scaling::Dynamic => plain,
            Scaling::Linear { factor } => plain.into_iter().map(|frequency| frequency / factor as f32).collect(),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = |frequency: f32| {
                    let wavelength = 2.0 * PI as f32 / frequency;
                    if wavelength < (original / high) as f32 {
                        frequency
                    } else if wavelength > (original / low) as f32 {
                        frequency / factor as f32
                    } else {
                        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                        (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
                    }
                };
                plain.into_iter().map(scaled).collect()
            }
            Scaling::Yarn { factor, ramp: [first, last], .. } => {
                let scaled = |(pair, frequency): (usize, f32)| {
                    let ramp = ((pair as f32 - first as f32) / (last - first) as f32).clamp(0.0, 1.0);
                    frequency / factor as f32 * ramp + frequency * (1.0 - ramp)
                };
                plain.into_iter().enumerate().map(scaled).collect()
            }
        }
    }

    /// What the scaling divides the frequency of each pair by, `[width / 2]`.
    pub fn factors(&self) -> Vec<f32> {
        let plain = Rotation::frequencies(self.width, self.theta);
        plain.into_iter().zip(self.frequencies()).map(|(plain, scaled)| plain / scaled).collect()
    }

    /// The factor of cosines and sines.
    pub fn attention_factor(&self) -> f32 {
        if let Scaling::Yarn { attention, .. } = self.scaling { attention as f32 } else { 1.0 }
    }

    /// Reads one set of rotary settings. `keys` are those of the whole file, `nested` those of `rope_parameters` or
    /// `rope_scaling`, if there are any; `theta` is the base if no key gives it.
    pub(super) fn read(
        keys: &Keys<'_>,
        nested: Option<(&str, &Map<String, Value>)>,
        theta: f64,
        [width, context]: [usize; 2],
    ) -> Result<Self, InputError> {
        let rotary = |theta, scaling| Self { theta, width, scaling };
        let Some((name, object)) = nested else { return Ok(rotary(theta, Scaling::None)) };
        let prefix = format!("{name}.");
        let inner = Keys { path: keys.path, prefix: &prefix, object };
        let theta = inner.number("rope_theta")?.unwrap_or(theta);
        let method = inner.present("rope_type").or(inner.present("type"));
        let method = method.map_or("default".into(), shown);
        let allowed: &[&str] = match method.as_str() {
            "default" => &[],
            "linear" | "dynamic" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
            "yarn" => &[
                "factor",
                "original_max_position_embeddings",
                "attention_factor",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "truncate",
            ],
            other => {
                let cause =
                    format!("`{other}` is not supported; `default`, `linear`, `dynamic`, `llama3` and `yarn` are");
                let key = if inner.present("rope_type").is_some() { "rope_type" } else { "type" };
                return Err(inner
                    .error(key, cause)
                    .hint("choose a base model with another scaling of rotary positions"));
            }
        };
        let known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];
        for key in object.keys().filter(|key| inner.present(key).is_some()) {
            if !known.contains(&key.as_str()) && !allowed.contains(&key.as_str()) {
                return Err(inner.error(key, format!("does not belong to the method `{method}`")));
            }
        }
        let required = |key: &str| {
            inner.positive(key, 0.0).and_then(|value| match value {
                0.0 => Err(inner.missing(key)),
                value => Ok(value),
            })
        };
        // Some files give the original context beside the rotary settings.
        let original = || -> Result<f64, InputError> {
            let nested = inner.positive("original_max_position_embeddings", context as f64)?;
            keys.positive("original_max_position_embeddings", nested)
        };
        let scaling = match method.as_str() {
            "linear" => Scaling::Linear { factor: required("factor")? },
            "dynamic" => {
                required("factor")?;
                Scaling::Dynamic
            }
            "llama3" => {
                let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
                if low >= high {
                    return Err(
                        inner.error("high_freq_factor", format!("`{high}` is not above `low_freq_factor` `{low}`"))
                    );
                }
                Scaling::Llama3 { factor: required("factor")?, low, high, original: original()? }
            }
            "yarn" => yarn(&inner, required("factor")?, original()?, [theta, width as f64])?,
            _ => Scaling::None,
        };
        Ok(rotary(theta, scaling))
    }
}

/// The numbers of YaRN, with the defaults of its paper.
fn yarn(keys: &Keys<'_>, factor: f64, original: f64, [theta, width]: [f64; 2]) -> Result<Scaling, InputError> {
    // The pair that turns so often in the original context.
    let pair = |turns: f64| width * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
    let (fast, slow) = (keys.positive("beta_fast", 32.0)?, keys.positive("beta_slow", 1.0)?);
    let (mut first, mut last) = (pair(fast), pair(slow));
    if keys.flag_or("truncate", true)? {
        (first, last) = (first.floor(), last.ceil());
    }
    (first, last) = (first.max(0.0), last.min(width - 1.0));
    if first == last {
        last += 0.001;
    }
    let growth = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let weights =
        (keys.number("mscale")?.filter(|one| *one != 0.0), keys.number("mscale_all_dim")?.filter(|one| *one != 0.0));
    let inferred = match weights {
        (Some(scale), Some(all)) => growth(scale) / growth(all),
        _ => growth(1.0),
    };
    Ok(Scaling::Yarn { factor, ramp: [first, last], attention: keys.positive("attention_factor", inferred)?, original })
}

impl fmt::Display for Rotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.theta)?;
        match self.scaling {
            Scaling::None => Ok(()),
            scaling => write!(f, " with {scaling:?}"),
        }
    }
}
