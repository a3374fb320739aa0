"""`make bench`: Undertone against the reference trainer, on this machine, in one run.

Both do the same work in turns, so that whatever else the machine does falls on both. Each measurement is a
process of its own. Prints a table of medians and ratios and writes them, with every measurement and what was
measured with, to `experiments/bench/NAME.json`.

In: `--pairs N` (5 unless told), `--only ROW …`, `--name NAME`. Needs `make model`; the reference trainer is
installed to `.cache/bench-venv` (7 GB) from `requirements.txt`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
MODEL = ROOT / "checkpoints" / "smollm2-135m-instruct"
PEER = ROOT / ".cache" / "bench-venv"


@dataclass(frozen=True)
class Row:
    """One comparison: the same work by both, and which of the numbers counts."""

    name: str
    what: str
    ours: list[str]
    peer: list[str]
    metric: str
    # The ratio that this row is held to: at least for a speed, at most for a memory.
    bound: float

    @property
    def is_memory(self) -> bool:
        return self.metric == "peak_mib"

    def holds(self, ratio: float) -> bool:
        return ratio <= self.bound if self.is_memory else ratio >= self.bound


def step(tokens: int, precision: str, method: str = "lora", steps: int = 3) -> list[str]:
    program = ROOT / "target" / "release" / "examples" / "step_time"
    return [str(program), str(MODEL), "flex", precision, str(tokens), "off", method, str(steps)]


def peer_step(tokens: int, dtype: str, *options: str, steps: int = 3) -> list[str]:
    script = [str(PEER / "bin" / "python"), str(HERE / "peer.py"), "step"]
    return [*script, "--model", str(MODEL), "--tokens", str(tokens), "--dtype", dtype, "--steps", str(steps), *options]


SPEED = "tokens_per_second"
ROWS = [
    Row("lora-1024-f32", "LoRA step, 1,024 tokens, f32", step(1024, "highest"), peer_step(1024, "float32"), SPEED, 1.6),
    Row("lora-1024-high", "the same, `high` products", step(1024, "high"), peer_step(1024, "float32"), SPEED, 1.6),
    Row("lora-1024-best", "the same, `medium` against bf16", step(1024, "medium"), peer_step(1024, "bfloat16"), SPEED, 2.0),
    Row(
        "lora-4096-f32", "LoRA step, 4,096 tokens, f32", step(4096, "highest", steps=1), peer_step(4096, "float32", steps=1), SPEED, 2.0
    ),
    Row(
        "lora-4096-high", "the same, `high` products", step(4096, "high", steps=1), peer_step(4096, "float32", steps=1), SPEED, 2.0
    ),
    Row(
        "memory-2048", "peak memory, 2,048 tokens, f32", step(2048, "highest", steps=1), peer_step(2048, "float32", steps=1), "peak_mib", 0.4
    ),
    Row(
        "memory-4096", "peak memory, 4,096 tokens, f32", step(4096, "highest", steps=1), peer_step(4096, "float32", steps=1), "peak_mib", 0.4
    ),
    Row("full-1024-f32", "full fine-tuning step, 1,024 tokens, f32", step(1024, "highest", "full"), peer_step(1024, "float32", "--full"), SPEED, 1.3),
]


def prepare_peer() -> None:
    """The reference trainer in an environment of its own."""
    done = PEER / "requirements.txt"
    wanted = (HERE / "requirements.txt").read_text()
    if done.is_file() and done.read_text() == wanted:
        return
    print("installing the reference trainer to .cache/bench-venv (7 GB)", file=sys.stderr)
    venv.create(PEER, with_pip=True)
    pip = [str(PEER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(HERE / "requirements.txt")], check=True)
    done.write_text(wanted)


def measure(command: list[str]) -> dict:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"error: `{' '.join(command)}` failed:\n{ran.stderr}")
    return json.loads(ran.stdout.strip().splitlines()[-1])


def machine() -> dict:
    cpu = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    amx = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    return {"cpu": cpu, "cores": os.cpu_count(), "amx_bf16": amx}


def measure_pairs(row: Row, pairs: int) -> dict[str, list[dict]]:
    """The two in turns; who goes first changes from pair to pair."""
    measured: dict[str, list[dict]] = {"ours": [], "peer": []}
    for pair in range(pairs):
        for side in ["ours", "peer"] if pair % 2 == 0 else ["peer", "ours"]:
            measured[side].append(measure(row.ours if side == "ours" else row.peer))
    return measured


def compare(row: Row, measured: dict[str, list[dict]]) -> dict:
    numbers = {side: [result[row.metric] for result in results] for side, results in measured.items()}
    ratios = [ours / peer for ours, peer in zip(numbers["ours"], numbers["peer"], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "name": row.name,
        "what": row.what,
        "metric": row.metric,
        "ours": statistics.median(numbers["ours"]),
        "peer": statistics.median(numbers["peer"]),
        "ratio": ratio,
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "bound": row.bound,
        "holds": row.holds(ratio),
        "measured": measured,
    }


def table(results: list[dict]) -> str:
    lines = ["| | ours | peer | ratio (lowest to highest pair) | wanted |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        memory = result["metric"] == "peak_mib"
        unit, wanted = ("MiB", "at most") if memory else ("tokens/s", "at least")
        spread = f"{result['lowest_ratio']:.2f} to {result['highest_ratio']:.2f}"
        verdict = "" if result["holds"] else " (missed)"
        lines.append(
            f"| {result['what']} | {result['ours']:,.0f} {unit} | {result['peer']:,.0f} {unit} "
            f"| {result['ratio']:.2f} × ({spread}) | {wanted} {result['bound']} ×{verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], metavar="ROW")
    parser.add_argument("--name", default="latest")
    arguments = parser.parse_args()
    prepare_peer()
    results = []
    # Speed and memory of the same work are of the same runs.
    earlier: dict[tuple, dict[str, list[dict]]] = {}
    for row in ROWS:
        if arguments.only and row.name not in arguments.only:
            continue
        print(f"{row.what} …", file=sys.stderr, flush=True)
        work = (*row.ours, *row.peer)
        if work not in earlier:
            earlier[work] = measure_pairs(row, arguments.pairs)
        results.append(compare(row, earlier[work]))
        print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": machine(),
        "requirements": [line for line in (HERE / "requirements.txt").read_text().splitlines() if "==" in line],
        "pairs": arguments.pairs,
        "rows": results,
    }
    path = ROOT / "experiments" / "bench" / f"{arguments.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
