//! An independent program computes the numbers of studies again from `records.parquet`: with scipy and statsmodels, in an
//! environment of its own.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use undertone_testing::program::{EXPERIMENT, Workplace};
use undertone_testing::python::packages;

#[test]
fn scipy_and_statsmodels_find_the_same_numbers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recompute").canonicalize().unwrap();
    let Some(packages) = packages(&folder, Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    let single = "train = 0.5\nvalidation = 0.2\ntest = 0.3";
    let arms = "\n[[arm]]\nname = \"others\"\nview = \"past\"\nsource = \"shuffled\"\n\n[[arm]]\nname = \"presence\"\nview = \"past\"\nsource = \"presence\"\n";
    for (name, seeds, split) in [
        ("seeds", 3, single),
        ("folds", 2, "folds = 3\nvalidation = 0.0"),
        ("divisions", 1, "folds = 2\nrepeats = 3\nvalidation = 0.0"),
        ("once", 1, single),
    ] {
        let place = Workplace::new(24);
        let experiment = EXPERIMENT.replace(single, split);
        place.write("x.toml", format!("seeds = {seeds}\n{experiment}{arms}"));
        place.run("ablate x.toml --set training.epochs=1").succeeded();
        let study = place.path("out/tiny").display().to_string();
        let script = folder.join("recompute.py").display().to_string();
        let ran = Command::new("python3").args([script, study]).env("PYTHONPATH", &packages).output().unwrap();
        let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(ran.status.success(), "{name}: {stdout}{stderr}");
        println!("{name}: {stdout}");
    }
}
