//! Exports that are refused leave nothing behind.

use super::*;

/// Exports after `change`, to the path that it returns. Expects this error, and no file created or removed.
fn check_refused(
    format: Format,
    change: impl FnOnce(&Path, &mut Decoder) -> PathBuf,
    expect: &str,
    hint: Option<&str>,
) {
    let (work, model) = base(true);
    let mut model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
    let folder = &work.path().join("base");
    let template = load_template(folder, &model.config, &GivenFormat::default()).unwrap();
    let to = change(work.path(), &mut model);
    let before = listing(work.path());
    let original = Original { folder, name: "./base", about: "", template: &template };
    let error = format.write(&model, original, &to, &provenance(), WeightType::F32.into()).unwrap_err();
    let within = format!("{}/", work.path().display());
    assert_eq!(shown(&error).replace(&within, ""), expect);
    assert_eq!(error.hint.as_deref(), hint, "{error}");
    assert_eq!(listing(work.path()), before);
}

#[test]
fn an_export_does_not_overwrite() {
    for format in [Hf, Peft] {
        check_refused(
            format,
            |work, _| {
                fs::create_dir(work.join("out")).unwrap();
                work.join("out")
            },
            "out: already exists",
            Some("choose another name, or remove it first"),
        );
    }
}

#[test]
fn a_refused_export_leaves_nothing_behind() {
    let base_hint = "give the folder of the model that was fine-tuned";
    let diverged = "the training has diverged; export an earlier checkpoint, or train with a lower learning rate";
    for format in [Hf, Peft] {
        check_refused(
            format,
            |work, _| {
                fs::remove_file(work.join("base/tokenizer.json")).unwrap();
                work.join("out")
            },
            "tokenizer.json: is missing; an export needs the tokenizer",
            Some("give the folder of the model that was fine-tuned, complete with its tokenizer"),
        );
        check_refused(
            format,
            |work, _| {
                let mut other = config(true);
                other["rope_theta"] = json!(20000.0);
                fs::write(work.join("base/config.json"), other.to_string()).unwrap();
                work.join("out")
            },
            "config.json, `rope_theta`: is `20000`, but the fine-tuned model has `10000`",
            Some(base_hint),
        );
        check_refused(
            format,
            |work, _| {
                let mut other = config(true);
                other["attention_bias"] = json!(true);
                fs::write(work.join("base/config.json"), other.to_string()).unwrap();
                work.join("out")
            },
            "config.json, `attention_bias`: is `true`, but the fine-tuned model has `false`",
            Some(base_hint),
        );
        check_refused(
            format,
            |work, model| {
                let b = &mut model.blocks[1].up.adapter.as_mut().unwrap().b;
                b.set(b.value().clone() * f32::NAN);
                work.join("out")
            },
            "out, `model.layers.1.mlp.up_proj.lora_B.weight`: is not written: value 0 of this weight is `NaN`, not a finite number",
            Some(diverged),
        );
        check_refused(
            format,
            |work, model| {
                // Every weight is finite, but their products are not. The base has the same weights.
                for (parameter, factor) in [(&mut model.norm.weight, 3e38), (&mut model.embedding, 1e3)] {
                    parameter.set(parameter.value().clone() * factor);
                    let values: Vec<f32> = parameter.value().clone().into_data().try_into_vec().unwrap();
                    replace_in_base(work, &parameter.name, &values);
                }
                work.join("out")
            },
            "out: is not written: the model computes the logit `-inf`, not a finite number",
            Some(diverged),
        );
        // The first files are written before this one fails.
        check_refused(
            format,
            |work, _| {
                fs::create_dir(work.join("base/added_tokens.json")).unwrap();
                work.join("out")
            },
            "added_tokens.json: is not a regular file",
            None,
        );
        check_refused(
            format,
            |work, _| work.join("base/config.json/out"),
            "out: cannot write: `base/config.json` is not a folder",
            None,
        );
        check_refused(
            format,
            |work, _| work.join("nowhere/.."),
            "..: is not the name of a new folder",
            Some("name a folder that does not exist yet"),
        );
    }
    check_refused(
        Peft,
        |work, _| {
            replace_in_base(work, "model.norm.weight", &[1.0; 16]);
            work.join("out")
        },
        "base, `model.norm.weight`: this weight differs from the one that the adapters were trained on",
        Some(
            "give the folder of the model that was fine-tuned; if its own weights were trained too, export a Hugging Face folder",
        ),
    );
}

/// Overwrites the values of one tensor of the base model.
fn replace_in_base(work: &Path, name: &str, values: &[f32]) {
    let path = work.join("base/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (header_bytes, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = header.info(name).unwrap().data_offsets;
    let new: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes[8 + header_bytes + start..8 + header_bytes + end].copy_from_slice(&new);
    fs::write(path, bytes).unwrap();
}
