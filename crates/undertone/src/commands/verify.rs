//! `undertone verify`: checks that the files of a study are as they were written.

use serde_json::json;
use undertone_study::{Problems, Verified, verify};

use crate::cli::Verify;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Verify, shell: &Shell) -> anyhow::Result<()> {
    let Verified { checkpoints, files, unchecked, faults } = verify(&args.folder)?;
    if shell.json {
        let faults: Vec<_> = faults.iter().map(|fault| json!({ "path": fault.path, "cause": fault.cause })).collect();
        shell.print_json(
            &json!({ "checkpoints": checkpoints, "files": files, "unchecked": unchecked, "faults": faults }),
        );
    }
    let counted = format!("{checkpoints} checkpoints and {files} other files checked");
    let without = format!("{} files, such as logs, have no checksum", unchecked.len());
    match faults.len() {
        0 => say(format!("{counted}: all are as they were written; {without}")),
        damaged => say(format!("{counted}, {damaged} of them damaged; {without}\n")),
    }
    if faults.is_empty() { Ok(()) } else { Err(Problems(faults).into()) }
}
