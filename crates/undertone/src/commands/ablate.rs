//! `undertone ablate`: trains every arm, scores all on the same held-out users, compares them and reports.

use undertone_study::{
    Base, Choices, Context, Experiment, Finished, Study, plan, prepare_stages, register, run as run_study,
};

use crate::cli::Ablate;
use crate::progress::Board;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Ablate, shell: &Shell) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let mut study = Study::prepare(Experiment::read(path, &args.experiment.set)?, path, &[])?;
    let base = Base::load(&study.experiment)?;
    prepare_stages(&mut study, &base)?;
    let observer = &Board::new(shell);
    if args.plan {
        let plan = plan(&Context { study: &study, base: &base, observer, stop: shell.stop })?;
        match shell.json {
            true => shell.print_json(&plan),
            false => shell.print(&plan.text()),
        }
        return Ok(());
    }
    if args.register {
        let path = register(&Context { study: &study, base: &base, observer, stop: shell.stop })?;
        match shell.json {
            true => shell.print_json(&serde_json::json!({ "registration": path })),
            false => shell.print(&format!("registered: {}\n", path.display())),
        }
        return Ok(());
    }
    let Finished { results, folder, checkpoints, failure } =
        run_study(&mut study, &base, observer, shell.stop, Choices { workers: args.jobs.into(), redact: args.redact })?;
    match shell.json {
        true => shell.print_json(&results),
        false => shell.print(&results.terminal()),
    }
    for verdict in results.verdicts() {
        say(verdict);
    }
    say(format!("\nreport:      {}", folder.join("report.html").display()));
    say(format!("results:     {}", folder.join("results.json").display()));
    for folder in checkpoints {
        say(format!("checkpoints: {}", folder.display()));
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}
