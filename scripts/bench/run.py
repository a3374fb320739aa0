"""`make bench`: Undertone against the reference trainer, on this machine, in one run.

Both do the same work in turns, so that other load on the machine affects both. Each measurement is its own process.
Prints a table of medians and ratios. Writes them, with every measurement, the machine and the versions, to
`experiments/bench/NAME.json` after each row. Keeps earlier rows of the same kind of machine and the same versions, so
that hours of measuring can be split.

In: `--pairs N` (5 by default), `--only ROW …`, `--name NAME`, `--data FILE` with `--conversations N` for the rows of
real conversations, which take hours in full; `--table` only prints what NAME holds. Needs `make model`; the
reference trainer is installed to `.cache/bench-venv` (7 GB) from `requirements.txt`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import measure
from environment import REQUIREMENTS, prepare_peer
from measure import SIDES, Measured, tell
from rows import PYTHON, ROOT, SECONDS, UNITS, Row, rows

def setting() -> dict:
    """What all numbers of one table must share: the machine and the versions."""
    cpu_info = Path("/proc/cpuinfo").read_text()
    cpu = next((line.split(":", 1)[1].strip() for line in cpu_info.splitlines() if "model name" in line), platform.processor())
    units = {"amx_bf16": "amx_bf16" in cpu_info, "avx512_bf16": "avx512_bf16" in cpu_info}
    frozen = subprocess.run([PYTHON, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    wanted = {line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line}
    versions = sorted(line for line in frozen.splitlines() if line.split("==")[0] in wanted | {"accelerate", "datasets"})
    return {"machine": {"cpu": cpu, "cores": os.cpu_count(), **units}, "requirements": versions}


def numbers_of(row: Row, measured: Measured) -> dict:
    """The numbers of both sides, and their ratio with its spread."""
    single = {side: [result[row.metric] for result in measured[side]] for side in SIDES}
    # Seconds: the peer's over ours, because fewer are better. Everything else: ours over the peer's.
    over = ("peer", "ours") if row.metric == SECONDS else ("ours", "peer")
    ratios = [a / b for a, b in zip(*(single[side] for side in over), strict=True)]
    if row.how == "conversations":
        # The total wall time; the spread is over single conversations.
        numbers = {side: sum(values) for side, values in single.items()}
        ratio = numbers["peer"] / numbers["ours"]
    else:
        numbers = {side: statistics.median(values) for side, values in single.items()}
        ratio = statistics.median(ratios)
    spread = {"pairs": len(ratios), "lowest_ratio": min(ratios), "highest_ratio": max(ratios)}
    return {**numbers, "ratio": ratio, **spread}


def record(row: Row, measured: Measured) -> dict:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    numbers = numbers_of(row, measured)
    about = {"name": row.name, "what": row.what, "metric": row.metric, "wanted": row.wanted()}
    held = {"holds": row.holds(numbers["ours"], numbers["ratio"])}
    when = {"date": datetime.date.today().isoformat(), "commit": commit}
    return {**about, **numbers, **held, **when, "measured": measured}


def save(path: Path, common: dict, done: list[dict]) -> list[dict]:
    """Writes these rows to the file in place of earlier ones; returns all rows in the order of the table."""
    kept = {}
    if path.is_file():
        earlier = json.loads(path.read_text())
        if {key: earlier.get(key) for key in common} != common:
            sys.exit(f"error: `{path}` holds numbers of another machine or other versions\n\nhint: choose another `--name`")
        kept = {result["name"]: result for result in earlier["rows"]}
    kept |= {result["name"]: result for result in done}
    ordered = [kept[row.name] for row in rows("") if row.name in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**common, "rows": ordered}, indent=1) + "\n")
    return ordered


def table(results: list[dict]) -> str:
    lines = ["| | Undertone | peer | ratio (lowest to highest) | wanted |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        unit = UNITS[result["metric"]]
        what, peer, ratio = result["what"], f"{result['peer']:,.0f} {unit}", f"{result['ratio']:.2f} ×"
        for whole in result["measured"].get("whole", []):
            part = "" if whole["conversations"] == whole["of"] else f"first {whole['conversations']} of {whole['of']} conversations, "
            what += f" ({part}{whole['targets']} targets)"
        for tight in result["measured"].get("peer_tight", []):
            peer += f"; {tight['tokens']:,.0f} with its allocator set to hand memory back"
        if result["pairs"] > 1:
            ratio += f" ({result['lowest_ratio']:.2f} to {result['highest_ratio']:.2f})"
        verdict = "" if result["holds"] else " (missed)"
        lines.append(f"| {what} | {result['ours']:,.0f} {unit} | {peer} | {ratio} | {result['wanted']}{verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--data", default="thoughttrace_examples.jsonl", help="conversations of the epoch and scoring rows")
    parser.add_argument("--conversations", type=int, help="only the first so many of them")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in rows("")], metavar="ROW")
    parser.add_argument("--name", default="latest")
    parser.add_argument("--table", action="store_true", help="print what was measured before")
    arguments = parser.parse_args()
    path = ROOT / "experiments" / "bench" / f"{arguments.name}.json"
    if arguments.table:
        print(table(json.loads(path.read_text())["rows"]))
        return
    prepare_peer()
    common = setting()
    results = save(path, common, [])
    # Rows with the same work share their runs.
    earlier: dict[tuple, Measured] = {}
    for row in rows(arguments.data):
        if arguments.only and row.name not in arguments.only:
            continue
        tell(f"{row.what} …")
        if row.how == "conversations" and not Path(arguments.data).is_file():
            tell(f"left out: there is no `{arguments.data}`; give the conversations by --data")
            continue
        if row.how == "conversations":
            measured = measure.conversations(row, arguments.conversations)
        elif row.how == "longest":
            measured = measure.longest(row)
        else:
            work = (*row.ours, *row.peer)
            measured = earlier.get(work) or measure.pairs(row, arguments.pairs)
            earlier[work] = measured
        done = record(row, measured)
        results = save(path, common, [done])
        tell(table([done]).splitlines()[-1])
    print(table(results))


if __name__ == "__main__":
    main()
