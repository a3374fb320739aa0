//! `undertone replay`: trains the last steps before a checkpoint again, and compares.

use anyhow::bail;
use undertone_study::{Replay as Request, Replayed};

use crate::cli::Replay;
use crate::progress::Board;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Replay, shell: &Shell) -> anyhow::Result<()> {
    let request = Request { checkpoint: args.checkpoint.clone(), steps: args.steps, overrides: args.set.clone() };
    let replayed = request.run(&Board::new(shell))?;
    if shell.json {
        shell.print_json(&replayed);
    }
    let Replayed { from, to, tensors, differences } = replayed;
    let steps = format!("steps {} to {to}", from + 1);
    let Some(first) = differences.first() else {
        say(format!("{steps}, trained again, give the same bytes in all {tensors} tensors"));
        return Ok(());
    };
    bail!(
        "{steps}, trained again, give other bytes in {} of {tensors} tensors; `{}` differs by up to {:e}\n\n\
        hint: a GPU does not always add in the same order; on a CPU, another processor may",
        differences.len(),
        first.tensor,
        first.largest
    )
}
