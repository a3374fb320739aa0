//! `undertone evaluate`: scores a checkpoint on held-out users, alone or against another model.

use undertone_files::refuse_existing;
use undertone_study::Evaluation;

use crate::cli::Evaluate;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Evaluate, shell: &Shell) -> anyhow::Result<()> {
    if let Some(path) = &args.records {
        refuse_existing(path)?;
    }
    let evaluation = Evaluation {
        checkpoint: args.checkpoint.clone(),
        against: args.against.clone(),
        access: args.view,
        timing: args.timing,
        source: args.source,
        split: args.split,
        records: args.records.clone(),
        overrides: args.set.clone(),
    };
    let result = evaluation.run()?;
    if shell.json {
        shell.print_json(&result);
        return Ok(());
    }
    shell.print(&result.text());
    say(format!("scored under the view: {}", result.view));
    for warning in &result.warnings {
        say(format!("! {warning}"));
    }
    Ok(())
}
