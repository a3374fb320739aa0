"""Copies the advisories about our dependencies from a clone of https://github.com/rustsec/advisory-db.

    python3 scripts/advisories/update.py CLONE

`make deny` then works without a network. Advisories are in the public domain (CC0).
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", sys.argv[1], *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    locked = tomllib.loads((HERE / "../../Cargo.lock").read_text())["package"]
    names = {package["name"] for package in locked}
    shutil.rmtree(HERE / "crates", ignore_errors=True)
    copied = 0
    for path in git("ls-tree", "-r", "HEAD", "--name-only", "crates").splitlines():
        found = re.fullmatch(r"crates/([^/]+)/RUSTSEC-[\d-]+\.md", path)
        if found and found[1] in names:
            (HERE / path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / path).write_text(git("show", f"HEAD:{path}"))
            copied += 1
    (HERE / "covered").write_text("".join(f"{name}\n" for name in sorted(names)))
    commit = git("log", "-1", "--format=%H of %cs").strip()
    (HERE / "SOURCE").write_text(f"https://github.com/rustsec/advisory-db, commit {commit}: {copied} advisories\n")


main()
