//! `undertone data fetch` and `undertone data verify`: published datasets.

use std::fs::File;
use std::path::Path;

use serde_json::json;
use undertone_data::{Counts, Dataset, THOUGHTTRACE};
use undertone_files::{InputError, WriteError, refuse_existing, write_streamed};
use undertone_hub::{Kind, Repository};
use undertone_report::{Table, columns, count};

use crate::cli::{Fetch, VerifyData};
use crate::shell::{Shell, say};

/// Downloads one file of a dataset.
pub(crate) fn fetch(args: &Fetch, shell: &Shell) -> anyhow::Result<()> {
    refuse_existing(&args.destination)?;
    if args.dataset == THOUGHTTRACE.name {
        if let Some(file) = &args.file {
            let cause = format!("has one file, `{}`; `--file {file}` is for other datasets", THOUGHTTRACE.file);
            return Err(InputError::new(&args.dataset, cause).hint("leave `--file` out").into());
        }
        let repository = Repository {
            kind: Kind::Dataset,
            name: THOUGHTTRACE.repository.to_owned(),
            revision: THOUGHTTRACE.revision.to_owned(),
        };
        let counts = download(&repository, THOUGHTTRACE.file, &args.destination, |path| THOUGHTTRACE.check(path))?;
        show(&THOUGHTTRACE, &counts, shell);
        say(THOUGHTTRACE.licence);
        return Ok(());
    }
    let Some(repository) = Repository::of_dataset(Path::new(&args.dataset))? else {
        return Err(InputError::new(&args.dataset, "is no dataset that is known")
            .hint("name `thoughttrace`, or `hf:owner/name` with `--file` for one of the Hugging Face Hub")
            .into());
    };
    let Some(file) = &args.file else {
        return Err(InputError::new(&args.dataset, "needs `--file`, which file of the dataset to download").into());
    };
    download(&repository, file, &args.destination, |_| Ok(()))?;
    if shell.json {
        shell.print_json(&json!({ "file": args.destination }));
    }
    Ok(())
}

/// Checks a copy of ThoughtTrace that was got elsewhere.
pub(crate) fn verify(args: &VerifyData, shell: &Shell) -> anyhow::Result<()> {
    let counts = THOUGHTTRACE.check(&args.file)?;
    show(&THOUGHTTRACE, &counts, shell);
    Ok(())
}

/// Downloads a file to the cache, checks it there, and copies it to its destination.
fn download<T>(
    repository: &Repository,
    file: &str,
    destination: &Path,
    check: impl Fn(&Path) -> Result<T, InputError>,
) -> Result<T, InputError> {
    let snapshot = repository.fetch(|_| vec![file.to_owned()])?;
    let kept = snapshot.folder.join(file);
    let checked = check(&kept)?;
    write_streamed(destination, |to| {
        let mut from =
            File::open(&kept).map_err(|error| InputError::io(&kept, "read", &error)).map_err(WriteError::Input)?;
        std::io::copy(&mut from, to)?;
        Ok(())
    })?;
    say(format!("`{file}` of `{repository}` is in `{}`", destination.display()));
    Ok(checked)
}

/// Shows what was counted beside what the publishers count.
fn show(dataset: &Dataset, counts: &Counts, shell: &Shell) {
    if shell.json {
        shell.print_json(&json!({ "dataset": dataset, "counts": counts }));
        return;
    }
    let row = |(what, here, published): (&str, usize, usize)| vec![what.to_owned(), count(here), count(published)];
    let published = &dataset.counts;
    let table = Table {
        title: format!("{}: size and SHA-256 are the published ones", dataset.file),
        header: columns(&[""], &["counted", "published"]),
        rows: [
            ("users", counts.users, published.users),
            ("conversations", counts.conversations, published.conversations),
            ("turns", counts.turns, published.turns),
            ("thoughts", counts.thoughts, published.thoughts),
        ]
        .map(row)
        .into(),
        notes: Vec::new(),
    };
    shell.print(&table.terminal());
}
