//! `undertone import`: converts a GGUF file to a Hugging Face folder.

use serde_json::json;
use undertone_model::import;

use crate::cli::Import;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Import, shell: &Shell) -> anyhow::Result<()> {
    let report = import::gguf(&args.source, &args.destination)?;
    let types: Vec<String> = report.tensors_by_type.iter().map(|(name, count)| format!("{count} {name}")).collect();
    say(format!(
        "imported {} parameters ({} tensors) to `{}`",
        report.parameters,
        types.join(", "),
        report.destination.display()
    ));
    if !report.unencodable_bytes.is_empty() {
        let bytes: Vec<String> = report.unencodable_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        tracing::warn!(
            "note: the vocabulary has no token for the bytes {}; encoding drops these bytes",
            bytes.join(" ")
        );
    }
    if shell.json {
        shell.print_json(&json!({
            "destination": report.destination,
            "source_sha256": report.source_sha256,
            "source_bytes": report.source_bytes,
            "parameters": report.parameters,
            "tensors_by_type": report.tensors_by_type,
            "unencodable_bytes": report.unencodable_bytes,
        }));
    }
    Ok(())
}
