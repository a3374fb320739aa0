"""Runs both sides of a row in turns, and returns what each reports.

Every measurement is `{"ours": [...], "peer": [...]}`, one record of a program's own numbers for each turn.
"""

import json
import subprocess
import sys
from collections.abc import Callable

from rows import MEMORY, Row

SIDES = ("ours", "peer")

Measured = dict[str, list[dict]]

# Lengths are tried in steps of `LENGTH_STEP` tokens, up to the model's context.
LENGTH_STEP = 512
CONTEXT_TOKENS = 8192
LIMIT_MIB = 16 * 1024


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def turns(index: int) -> tuple[str, ...]:
    """The sides in order: another side goes first in each turn."""
    return SIDES if index % 2 == 0 else SIDES[::-1]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def last_line(ran: subprocess.CompletedProcess) -> dict:
    if ran.returncode != 0:
        sys.exit(f"error: `{' '.join(ran.args)}` failed:\n{ran.stderr}")
    return json.loads(ran.stdout.strip().splitlines()[-1])


def pairs(row: Row, count: int) -> Measured:
    measured: Measured = {side: [] for side in SIDES}
    for pair in range(count):
        for side in turns(pair):
            measured[side].append(last_line(run(row.ours if side == "ours" else row.peer)))
    return measured


def longest(row: Row) -> Measured:
    """Bisects for the longest row whose step stays within the limit, on each side."""

    def fits(command: list[str], tokens: int) -> dict | None:
        ran = run([str(tokens) if word == "TOKENS" else word for word in command])
        # Running out of memory is an expected result; any other error is a failure.
        if ran.returncode != 0 and not is_out_of_memory(ran):
            last_line(ran)
        record = None if ran.returncode else last_line(ran)
        tell(f"  {tokens} tokens: {'out of memory' if record is None else f'{record[MEMORY]:,.0f} MiB'}")
        return record if record and record[MEMORY] <= LIMIT_MIB else None

    def search(fits: Callable[[int], dict | None]) -> dict:
        low, high, best = 0, CONTEXT_TOKENS // LENGTH_STEP + 1, {}
        middle = high - 1
        while low < middle:
            found = fits(middle * LENGTH_STEP)
            low, high, best = (middle, high, found) if found else (low, middle, best)
            middle = (low + high) // 2
        return {**best, "tokens": low * LENGTH_STEP}

    ours = search(lambda tokens: fits(row.ours, tokens))
    peer = search(lambda tokens: fits(row.peer, tokens))
    tight = search(lambda tokens: fits([*row.peer, "--tight"], tokens))
    return {"ours": [ours], "peer": [peer], "peer_tight": [tight]}


def is_out_of_memory(ran: subprocess.CompletedProcess) -> bool:
    return any(sign in ran.stderr for sign in ("can't allocate memory", "bad_alloc", "MemoryError")) or ran.returncode == -9


class Worker:
    """A program that processes one conversation for every line of its input."""

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


def conversations(row: Row, limit: int | None) -> Measured:
    """Measures one conversation after another; the nats of both sides must agree within 1 %."""
    # Ours starts first: it writes the rows that the peer reads.
    workers = {"ours": Worker(row.ours)}
    workers["peer"] = Worker(row.peer)
    count = min(limit or sys.maxsize, workers["ours"].conversations)
    measured: Measured = {side: [] for side in SIDES}
    for index in range(count):
        for side in turns(index):
            measured[side].append(workers[side].next())
        ours, peer = (measured[side][-1]["seconds"] for side in SIDES)
        tell(f"  conversation {index + 1} of {workers['ours'].conversations}: {ours:.1f} s, {peer:.1f} s")
    ends = {side: worker.finish() for side, worker in workers.items()}
    ours, peer = ends["ours"]["nats"], ends["peer"]["nats"]
    if ours.keys() != peer.keys():
        sys.exit(f"error: {row.name}: other targets: {sorted(ours.keys() ^ peer.keys())[:5]}")
    worst = max(abs(ours[key] - peer[key]) / max(peer[key], 1.0) for key in ours)
    tell(f"  largest relative difference of {len(ours)} targets' nats: {worst:.1e}")
    if worst > 0.01:
        sys.exit(f"error: {row.name}: nats differ by {worst:.1%}: not the same work")
    whole = {"conversations": count, "of": workers["ours"].conversations, "targets": len(ours), "largest_difference_of_nats": worst}
    return {**measured, "whole": [{**whole, "peak_mib": {side: end["peak_mib"] for side, end in ends.items()}}]}
