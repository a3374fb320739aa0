//! `undertone runs`: studies and trainings in a folder.

use undertone_report::{Table, columns};
use undertone_study::{StudyRuns, TrainingRun, runs, send_to_mlflow};

use crate::cli::Runs;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Runs, shell: &Shell) -> anyhow::Result<()> {
    let studies = runs(&args.folder)?;
    if let Some(url) = &args.mlflow {
        let sent = send_to_mlflow(&studies, url)?;
        say(format!("sent {sent} trainings to `{url}`"));
    }
    if shell.json {
        shell.print_json(&studies);
        return Ok(());
    }
    let shown: Vec<String> = studies.iter().map(text).collect();
    shell.print(&shown.join("\n"));
    Ok(())
}

fn text(study: &StudyRuns) -> String {
    let loss = |loss: Option<f64>| loss.map_or_else(|| "–".to_owned(), |loss| format!("{loss:.3}"));
    let row = |run: &TrainingRun| {
        let best = run.best.map(|best| format!("{:.3} (step {})", best.nats_per_token, best.step));
        vec![
            run.place.display().to_string(),
            run.state.name().to_owned(),
            run.steps.to_string(),
            loss(run.loss),
            best.unwrap_or_else(|| "–".to_owned()),
            loss(run.test),
        ]
    };
    let differing = study.differing.iter().map(|(key, value)| format!("{key} = {value}"));
    let table = Table {
        title: study.folder.display().to_string(),
        header: columns(&["training", "state"], &["steps", "last loss", "best validation loss", "test loss"]),
        rows: study.trainings.iter().map(row).collect(),
        notes: differing.chain(study.verdict.as_deref().map(short)).collect(),
    };
    table.terminal()
}

/// What a verdict says, without its interval.
fn short(verdict: &str) -> String {
    verdict.split_inclusive(". ").take(2).collect::<String>().trim_end().to_owned()
}
