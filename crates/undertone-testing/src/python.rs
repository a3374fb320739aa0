//! Python packages for programs that check ours.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs the packages that `requirements.txt` in `folder` names, in a folder of their own below `target`, for
/// `PYTHONPATH`; `None` if they cannot be installed, which is a failure in CI.
pub fn packages(folder: &Path, target: &Path) -> Option<PathBuf> {
    let packages = target.join(folder.file_name().expect("a folder with a name"));
    let done = packages.join("installed.txt");
    let requirements = std::fs::read_to_string(folder.join("requirements.txt")).expect("requirements.txt");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == requirements) {
        return Some(packages);
    }
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "-r", "requirements.txt", "--target"])
        .arg(&packages)
        .current_dir(folder)
        .output();
    let error = match pip {
        Ok(pip) if pip.status.success() => {
            std::fs::write(done, requirements).expect("the folder can be written");
            return Some(packages);
        }
        Ok(pip) => String::from_utf8_lossy(&pip.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: {error}");
    println!("skipped: Python packages cannot be installed: {error}");
    None
}
