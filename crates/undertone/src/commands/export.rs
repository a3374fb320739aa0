//! `undertone export`: a checkpoint as a folder that other software loads.

use serde_json::json;

use super::{open_checkpoint, print_json, require_absent};
use crate::base::Base;
use crate::cli::{Export, ExportFormat};

pub(crate) fn run(args: &Export, json: bool) -> anyhow::Result<()> {
    require_absent(&args.destination)?;
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
    let write = match args.format {
        ExportFormat::Hf => undertone_export::hugging_face,
        ExportFormat::Peft => undertone_export::peft,
    };
    let exported = write(&decoder, &experiment.model.path, &args.destination, &provenance)?;
    eprintln!(
        "wrote {} to `{}`; read back, its logits differ by at most {:.1e}",
        exported.files.join(", "),
        exported.folder.display(),
        exported.largest_logit_difference
    );
    if json {
        print_json(&json!({
            "folder": exported.folder,
            "files": exported.files,
            "largest_logit_difference": exported.largest_logit_difference,
        }));
    }
    Ok(())
}
