"""The environment with the other trainer: torch, transformers, PEFT and TRL, in `.cache/bench-venv`."""

import subprocess
import venv

from measure import tell
from rows import HERE, PEER, PYTHON

REQUIREMENTS = HERE / "requirements.txt"


def prepare_peer() -> None:
    """Installs it."""
    done = PEER / "requirements.txt"
    if done.is_file() and done.read_text() == REQUIREMENTS.read_text():
        return
    tell("installing the reference trainer to .cache/bench-venv (7 GB)")
    venv.create(PEER, with_pip=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
    done.write_text(REQUIREMENTS.read_text())
