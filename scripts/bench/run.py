"""`make bench`: Undertone against the reference trainer, on this machine, in one run.

Both do the same work in turns, so that whatever else the machine does falls on both. Each measurement is a
process of its own. Prints a table of medians and ratios and writes them, with every measurement and what was
measured with, to `experiments/bench/NAME.json`.

In: `--pairs N` (5 unless told), `--only ROW …`, `--name NAME`, `--data FILE` with `--conversations N` for the rows that
go through real conversations, which take two hours whole. Needs `make model`; the reference trainer is
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


EXAMPLES = ROOT / "target" / "release" / "examples"
PYTHON = str(PEER / "bin" / "python")


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
    # Both do one conversation after another, in turns, when told to; the pairs are the conversations.
    conversations: bool = False

    @property
    def is_memory(self) -> bool:
        return self.metric == "peak_mib"

    def holds(self, ratio: float) -> bool:
        return ratio <= self.bound if self.is_memory else ratio >= self.bound


def step(tokens: int, precision: str, method: str = "lora", steps: int = 3) -> list[str]:
    return [str(EXAMPLES / "step_time"), str(MODEL), "flex", precision, str(tokens), "off", method, str(steps)]


def peer(task: str, *options: str) -> list[str]:
    return [PYTHON, str(HERE / "peer.py"), task, "--model", str(MODEL), *options]


def peer_step(tokens: int, dtype: str, *options: str, steps: int = 3) -> list[str]:
    return peer("step", "--tokens", str(tokens), "--dtype", dtype, "--steps", str(steps), *options)


def conversations(name: str, what: str, work: str, task: str, data: str, bound: float) -> Row:
    folder = str(ROOT / ".cache" / "bench" / work)
    ours = [str(EXAMPLES / "conversation_time"), str(MODEL), data, work, "highest", folder]
    return Row(name, what, ours, peer(task, "--folder", folder), "seconds", bound, conversations=True)


SPEED = "tokens_per_second"


def rows(data: str) -> list[Row]:
    lora = [
        Row("lora-1024-f32", "LoRA step, 1,024 tokens, f32", step(1024, "highest"), peer_step(1024, "float32"), SPEED, 1.6),
        Row("lora-1024-high", "the same, `high` products", step(1024, "high"), peer_step(1024, "float32"), SPEED, 1.6),
        Row("lora-1024-best", "the same, `medium` against bf16", step(1024, "medium"), peer_step(1024, "bfloat16"), SPEED, 2.0),
    ]
    f32 = step(4096, "highest", steps=1), peer_step(4096, "float32", steps=1)
    longer = [
        Row("lora-4096-f32", "LoRA step, 4,096 tokens, f32", *f32, SPEED, 2.0),
        Row("lora-4096-high", "the same, `high` products", step(4096, "high", steps=1), f32[1], SPEED, 2.0),
        Row("memory-4096", "peak memory, 4,096 tokens, f32", *f32, "peak_mib", 0.4),
        Row(
            "memory-2048",
            "peak memory, 2,048 tokens, f32",
            step(2048, "highest", steps=1),
            peer_step(2048, "float32", steps=1),
            "peak_mib",
            0.4,
        ),
    ]
    full = step(1024, "highest", "full"), peer_step(1024, "float32", "--full")
    generation = [str(EXAMPLES / "generate_time"), str(MODEL), "flex", "highest", "512", "64"]
    return [
        *lora,
        *longer,
        Row("full-1024-f32", "full fine-tuning step, 1,024 tokens, f32", *full, SPEED, 1.3),
        Row("generation", "greedy generation, 512 + 64 tokens, f32", generation, peer("generate", "--tokens", "512"), SPEED, 2.0),
        conversations("epoch-rows", "one epoch, against one row a target", "epoch", "rows", data, 6.0),
        conversations("epoch-windows", "one epoch, against one row a conversation", "epoch", "windows", data, 1.8),
        conversations("scoring", "scoring two arms, against one pass a target", "score", "score", data, 6.0),
        conversations("labels", "scoring labels, against one pass a candidate", "labels", "score", data, 5.0),
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


class Worker:
    """A program that does one conversation for every line it is given."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.conversations = self.read()["conversations"]

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: `{' '.join(self.command)}` ended with status {self.process.wait()}")
        return json.loads(line)

    def next(self) -> dict:
        self.process.stdin.write("next\n")
        self.process.stdin.flush()
        return self.read()

    def finish(self) -> dict:
        self.process.stdin.close()
        last = self.read()
        self.process.wait()
        return last


def measure_conversations(row: Row, limit: int | None) -> dict[str, list[dict]]:
    """The two in turns, conversation by conversation; what they computed must be the same within 1 %."""
    # Ours first: it writes the rows that the other one reads.
    workers = {"ours": Worker(row.ours)}
    workers["peer"] = Worker(row.peer)
    count = min(limit or sys.maxsize, workers["ours"].conversations)
    measured: dict[str, list[dict]] = {"ours": [], "peer": []}
    for index in range(count):
        for side in ["ours", "peer"] if index % 2 == 0 else ["peer", "ours"]:
            measured[side].append(workers[side].next())
        ours, peer = (measured[side][-1]["seconds"] for side in ("ours", "peer"))
        print(f"  conversation {index + 1} of {count}: {ours:.1f} s, {peer:.1f} s", file=sys.stderr, flush=True)
    ends = {side: worker.finish() for side, worker in workers.items()}
    ours, peer = ends["ours"]["nats"], ends["peer"]["nats"]
    if ours.keys() != peer.keys():
        sys.exit(f"error: {row.name}: other targets: {sorted(ours.keys() ^ peer.keys())[:5]}")
    worst = max(abs(ours[key] - peer[key]) / max(peer[key], 1.0) for key in ours)
    print(f"  largest relative difference of {len(ours)} targets' nats: {worst:.1e}", file=sys.stderr, flush=True)
    if worst > 0.01:
        sys.exit(f"error: {row.name}: nats differ by {worst:.1%}: not the same work")
    for side, end in ends.items():
        measured[side].append({"peak_mib": end["peak_mib"], "largest_difference_of_nats": worst})
    return measured


def compare_conversations(row: Row, measured: dict[str, list[dict]]) -> dict:
    """Wall time of all conversations together; the spread is that of single ones."""
    seconds = {side: [result["seconds"] for result in results[:-1]] for side, results in measured.items()}
    ratios = [peer / ours for ours, peer in zip(seconds["ours"], seconds["peer"], strict=True)]
    total = {side: sum(numbers) for side, numbers in seconds.items()}
    return record(row, total, total["peer"] / total["ours"], ratios, measured)


def compare(row: Row, measured: dict[str, list[dict]]) -> dict:
    numbers = {side: [result[row.metric] for result in results] for side, results in measured.items()}
    ratios = [ours / peer for ours, peer in zip(numbers["ours"], numbers["peer"], strict=True)]
    medians = {side: statistics.median(values) for side, values in numbers.items()}
    return record(row, medians, statistics.median(ratios), ratios, measured)


def record(row: Row, numbers: dict[str, float], ratio: float, ratios: list[float], measured: dict) -> dict:
    return {
        "name": row.name,
        "what": row.what,
        "metric": row.metric,
        **numbers,
        "ratio": ratio,
        "pairs": len(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "bound": row.bound,
        "holds": row.holds(ratio),
        "measured": measured,
    }


def table(results: list[dict]) -> str:
    lines = ["| | ours | peer | ratio (lowest to highest pair) | wanted |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        unit = {"peak_mib": "MiB", "seconds": "s"}.get(result["metric"], "tokens/s")
        wanted = "at most" if result["metric"] == "peak_mib" else "at least"
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
    parser.add_argument("--data", default="thoughttrace_examples.jsonl", help="conversations of the epoch and scoring rows")
    parser.add_argument("--conversations", type=int, help="only the first so many of them")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in rows("")], metavar="ROW")
    parser.add_argument("--name", default="latest")
    arguments = parser.parse_args()
    prepare_peer()
    results = []
    # Speed and memory of the same work are of the same runs.
    earlier: dict[tuple, dict[str, list[dict]]] = {}
    for row in rows(arguments.data):
        if arguments.only and row.name not in arguments.only:
            continue
        print(f"{row.what} …", file=sys.stderr, flush=True)
        if row.conversations and not Path(arguments.data).is_file():
            print(f"left out: there is no `{arguments.data}`; give the conversations by --data", file=sys.stderr)
            continue
        if row.conversations:
            results.append(compare_conversations(row, measure_conversations(row, arguments.conversations)))
        else:
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
