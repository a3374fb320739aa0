//! What differs between the blocks of a decoder: windows of attention, and rotary positions.

use serde_json::{Map, Value};
use undertone_files::InputError;

use super::family::{Family, Windows};
use super::keys::{Keys, MAX_CONTEXT, shown};
use super::rotary::Rotary;

/// What differs between the blocks of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// The last tokens of its path that a token sees, itself included; all of them if `None`.
    pub window: Option<usize>,
    /// Which of the rotary positions it has, if any.
    pub rotary: Option<usize>,
}

/// Reads what each of `count` blocks is.
pub(super) fn layers(keys: &Keys<'_>, family: &Family, count: usize) -> Result<Vec<Layer>, InputError> {
    let windows = windows(keys, family, count)?;
    let rotates = rotated(keys, family, count)?;
    let is_local = |window: Option<usize>| family.windows.are_local() && window.is_some();
    let layer = |(window, rotates): (Option<usize>, bool)| Layer {
        window,
        rotary: rotates.then_some(usize::from(is_local(window))),
    };
    Ok(windows.into_iter().zip(rotates).map(layer).collect())
}

/// The window of each block.
fn windows(keys: &Keys<'_>, family: &Family, count: usize) -> Result<Vec<Option<usize>>, InputError> {
    let window = keys.optional_size("sliding_window", MAX_CONTEXT)?;
    let is_absent = !keys.object.contains_key("sliding_window");
    match family.windows {
        Windows::Never => match window {
            Some(window) => Err(keys.error("sliding_window", format!("is `{window}`, but this family has no windows"))),
            None => Ok(vec![None; count]),
        },
        Windows::All(default) => Ok(vec![if is_absent { default } else { window }; count]),
        Windows::Upper(default) => {
            let window = if is_absent { default } else { window };
            let window = if keys.flag("use_sliding_window")? { window } else { None };
            let first = keys.optional_size("max_window_layers", MAX_CONTEXT)?.unwrap_or(28);
            let rotates = rotated(keys, family, count)?;
            // Blocks without rotary positions, or the upper ones.
            let has_window = |index: usize| if family.skips_rotation { !rotates[index] } else { index >= first };
            listed(keys, window, (0..count).map(has_window).collect())
        }
        Windows::Local(default) => {
            let window = if is_absent { Some(default) } else { window };
            let period = keys.optional_size("sliding_window_pattern", MAX_CONTEXT)?.unwrap_or(6);
            listed(keys, window, (0..count).map(|index| !(index + 1).is_multiple_of(period)).collect())
        }
    }
}

/// The window where `layer_types` has it; where the file has no such list, where `by_default` says.
fn listed(keys: &Keys<'_>, window: Option<usize>, by_default: Vec<bool>) -> Result<Vec<Option<usize>>, InputError> {
    let Some(listed) = keys.present("layer_types") else {
        return Ok(by_default.into_iter().map(|has| window.filter(|_| has)).collect());
    };
    let names = listed.as_array().filter(|names| names.len() == by_default.len());
    let Some(names) = names else {
        return Err(keys.error("layer_types", format!("is not a list of {} names, one a block", by_default.len())));
    };
    let of_name = |name: &Value| match (name.as_str(), window) {
        (Some("full_attention"), _) => Ok(None),
        (Some("sliding_attention"), Some(window)) => Ok(Some(window)),
        (Some("sliding_attention"), None) => {
            Err(keys.error("layer_types", "has `sliding_attention`, but there is no window"))
        }
        _ => Err(keys.error(
            "layer_types",
            format!("`{}` is not supported; `full_attention` and `sliding_attention` are", shown(name)),
        )),
    };
    names.iter().map(of_name).collect()
}

/// Which blocks have rotary positions.
fn rotated(keys: &Keys<'_>, family: &Family, count: usize) -> Result<Vec<bool>, InputError> {
    if !family.skips_rotation {
        return Ok(vec![true; count]);
    }
    let Some(listed) = keys.present("no_rope_layers") else {
        let period = keys.optional_size("no_rope_layer_interval", MAX_CONTEXT)?.unwrap_or(4);
        return Ok((0..count).map(|index| !(index + 1).is_multiple_of(period)).collect());
    };
    let flags: Option<Vec<bool>> = listed.as_array().filter(|flags| flags.len() >= count).and_then(|flags| {
        let flag = |flag: &Value| match flag.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        };
        flags.iter().take(count).map(flag).collect()
    });
    flags.ok_or_else(|| keys.error("no_rope_layers", format!("is not a list of {count} numbers, 0 or 1, one a block")))
}

/// The rotary positions: those of blocks without a window, and those of blocks with one where they have their own.
pub(super) fn rotary(
    keys: &Keys<'_>,
    family: &Family,
    [head_dim, context]: [usize; 2],
) -> Result<Vec<Rotary>, InputError> {
    let mut nested = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(value) = keys.present(name) else { continue };
        let Value::Object(object) = value else {
            return Err(keys.error(name, format!("is `{}`, not an object", shown(value))));
        };
        match nested {
            Some((first, other)) if other != object && !object.is_empty() => {
                return Err(keys.error(name, format!("differs from `{first}`, which is the same setting")));
            }
            None if !object.is_empty() => nested = Some((name, object)),
            _ => {}
        }
    }
    let width = rotated_width(keys, family, nested, head_dim)?;
    let outer = keys.number("rope_theta")?;
    if family.windows.are_local() {
        let part = |name: &str| match nested {
            Some((outer, object))
                if object.contains_key("full_attention") || object.contains_key("sliding_attention") =>
            {
                let part = object.get(name).and_then(Value::as_object);
                part.map(|part| (format!("{outer}.{name}"), part))
            }
            Some((outer, object)) if name == "full_attention" => Some((outer.to_owned(), object)),
            _ => None,
        };
        let read = |name: &str, theta: f64| {
            let part = part(name);
            let nested = part.as_ref().map(|(name, object)| (name.as_str(), *object));
            checked(keys, Rotary::read(keys, nested, theta, [width, context])?)
        };
        let local = keys.number("rope_local_base_freq")?.unwrap_or(10_000.0);
        return Ok(vec![
            read("full_attention", outer.unwrap_or(family.rope_theta))?,
            read("sliding_attention", local)?,
        ]);
    }
    if let Some((name, object)) = nested {
        let prefix = format!("{name}.");
        let inner = Keys { path: keys.path, prefix: &prefix, object }.number("rope_theta")?;
        if let (Some(outer), Some(inner)) = (outer, inner)
            && outer != inner
        {
            return Err(keys.error("rope_theta", format!("is `{outer}`, but `{name}.rope_theta` is `{inner}`")));
        }
    }
    let theta = outer.unwrap_or(family.rope_theta);
    Ok(vec![checked(keys, Rotary::read(keys, nested, theta, [width, context])?)?])
}

/// The rotated elements of a head.
fn rotated_width(
    keys: &Keys<'_>,
    family: &Family,
    nested: Option<(&str, &Map<String, Value>)>,
    head_dim: usize,
) -> Result<usize, InputError> {
    let prefix = nested.map_or(String::new(), |(name, _)| format!("{name}."));
    let nested = nested.map(|(_, object)| Keys { path: keys.path, prefix: &prefix, object });
    let inner = nested.as_ref().map_or(Ok(None), |nested| nested.number("partial_rotary_factor"))?;
    let fraction = inner.or(keys.number("partial_rotary_factor")?).unwrap_or(1.0);
    if fraction == 1.0 {
        return Ok(head_dim);
    }
    if !family.rotates_partly {
        return Err(keys.error("partial_rotary_factor", format!("`{fraction}` is not supported; only `1` is")));
    }
    let width = (head_dim as f64 * fraction) as usize;
    if !(2..=head_dim).contains(&width) || !width.is_multiple_of(2) {
        let cause = format!("`{fraction}` of a head of `{head_dim}` is not an even number of elements");
        return Err(keys.error("partial_rotary_factor", cause));
    }
    Ok(width)
}

fn checked(keys: &Keys<'_>, rotary: Rotary) -> Result<Rotary, InputError> {
    let theta = rotary.theta;
    if theta > 1.0 && theta <= 1e12 {
        return Ok(rotary);
    }
    Err(keys.error("rope_theta", format!("is `{theta}`, not between 1 and 1e12")))
}
