//! `undertone export`: writes a checkpoint as a folder that other software loads.

use std::path::Path;

use serde_json::json;
use undertone_export::{Original, Packing};
use undertone_files::{InputError, refuse_existing};
use undertone_hub::Repository;
use undertone_study::{Base, model_card, open_checkpoint};

use crate::cli::Export;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Export, shell: &Shell) -> anyhow::Result<()> {
    refuse_existing(&args.destination)?;
    let (checkpoint, experiment) = open_checkpoint(&args.checkpoint, &[])?;
    experiment.arm(Some(&checkpoint.description.arm), &args.checkpoint)?;
    let base = Base::load(&experiment)?;
    let decoder = base.restored(&experiment, &checkpoint, &args.checkpoint)?;
    let description = &checkpoint.description;
    let provenance = json!({
        "undertone": env!("CARGO_PKG_VERSION"),
        "experiment": description.experiment,
        "experiment_sha256": experiment.hash(),
        "training_key": description.training_key,
        "base_model_sha256": description.base_model,
        "arm": description.arm,
        "state": description.state,
    });
    let name = name_for_others(&experiment.model.path)?;
    let about = model_card(description, &experiment)?;
    let packing = Packing { kind: args.dtype, shard_bytes: args.shard_size };
    let original = Original { folder: &base.folder, name: &name, about: &about, template: &base.template };
    let exported = args.format.write(&decoder, original, &args.destination, &provenance, packing)?;
    say(format!(
        "wrote {} to `{}`; after reading it back, its logits differ from the checkpoint's by at most {:.1e}",
        exported.files.join(", "),
        exported.folder.display(),
        exported.largest_logit_difference
    ));
    if shell.json {
        shell.print_json(&json!({
            "folder": exported.folder,
            "files": exported.files,
            "largest_logit_difference": exported.largest_logit_difference,
        }));
    }
    Ok(())
}

/// What other software finds the base model by. A relative path begins with `./`, because `folder/model` is a name of the Hub.
fn name_for_others(path: &Path) -> Result<String, InputError> {
    Ok(match Repository::of_model(path)? {
        Some(repository) => repository.name,
        None if path.is_absolute() || path.starts_with(".") || path.starts_with("..") => path.display().to_string(),
        None => format!("./{}", path.display()),
    })
}
