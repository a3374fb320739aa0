"""What `make bench` compares: the rows of its table, each with the commands of both sides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
MODEL = ROOT / "checkpoints" / "smollm2-135m-instruct"
PEER = ROOT / ".cache" / "bench-venv"

EXAMPLES = ROOT / "target" / "release" / "examples"
PYTHON = str(PEER / "bin" / "python")

SPEED = "tokens_per_second"
MEMORY = "peak_mib"
SECONDS = "seconds"
LENGTH = "tokens"

UNITS = {SPEED: "tokens/s", MEMORY: "MiB", SECONDS: "s", LENGTH: "tokens"}


@dataclass(frozen=True)
class Row:
    """One comparison: the same work on both sides, and the metric that counts."""

    name: str
    what: str
    ours: list[str]
    peer: list[str]
    metric: str
    # The bound: the least ratio for speed and seconds, the most for memory, or our least length. None: no bound, the
    # row only explains another.
    bound: float | None
    # Measures whole programs in turns, single conversations in turns, or the longest row that fits.
    how: Literal["pairs", "conversations", "longest"] = "pairs"

    def holds(self, ours: float, ratio: float) -> bool:
        if self.bound is None:
            return True
        if self.metric == LENGTH:
            return ours >= self.bound
        return ratio <= self.bound if self.metric == MEMORY else ratio >= self.bound

    def wanted(self) -> str:
        if self.bound is None:
            return ""
        if self.metric == LENGTH:
            return f"{self.bound:,.0f} tokens"
        return f"at {'most' if self.metric == MEMORY else 'least'} {self.bound} ×"


def step(tokens: int | str, precision: str, method: str = "lora", steps: int = 3) -> list[str]:
    return [str(EXAMPLES / "step_time"), str(MODEL), "flex", precision, str(tokens), "off", method, str(steps)]


def peer(task: str, *options: str) -> list[str]:
    return [PYTHON, str(HERE / "peer.py"), task, "--model", str(MODEL), *options]


def peer_step(tokens: int | str, dtype: str, *options: str, steps: int = 3) -> list[str]:
    return peer("step", "--tokens", str(tokens), "--dtype", dtype, "--steps", str(steps), *options)


def conversations(name: str, what: str, work: str, task: str, data: str, bound: float, precision: str = "highest") -> Row:
    folder = str(ROOT / ".cache" / "bench" / work)
    ours = [str(EXAMPLES / "conversation_time"), str(MODEL), data, work, precision, folder]
    theirs = peer(task, "--folder", folder, "--matmul-precision", precision)
    return Row(name, what, ours, theirs, SECONDS, bound, "conversations")


def rows(data: str) -> list[Row]:
    """All rows in the order of the table. `data` is the file of conversations."""
    best = "the same in the best precision of either: `medium` against bf16"
    lora = [
        Row("lora-1024-f32", "LoRA step, 1,024 tokens, f32", step(1024, "highest"), peer_step(1024, "float32"), SPEED, 1.6),
        Row("lora-1024-best", best, step(1024, "medium"), peer_step(1024, "bfloat16"), SPEED, 2.0),
    ]
    steps_2048 = step(2048, "highest", steps=1), peer_step(2048, "float32", steps=1)
    steps_4096 = step(4096, "highest", steps=1), peer_step(4096, "float32", steps=1)
    # `TOKENS` stands for the tried length. The limit is a guard; the peak decides.
    longest = step("TOKENS", "highest", steps=1), peer_step("TOKENS", "float32", "--limit-mib", "20480", steps=1)
    longer = [
        Row("lora-4096-f32", "LoRA step, 4,096 tokens, f32", *steps_4096, SPEED, 2.0),
        Row("memory-2048", "peak memory of a step, 2,048 tokens, f32", *steps_2048, MEMORY, 0.4),
        Row("memory-4096", "peak memory of a step, 4,096 tokens, f32", *steps_4096, MEMORY, 0.4),
        Row("memory-4096-tight", "the same, the peer's allocator set to hand memory back", steps_4096[0], [*steps_4096[1], "--tight"], MEMORY, None),
        Row("longest", "longest trainable row in 16 GiB, f32", *longest, LENGTH, 8192, "longest"),
    ]
    full = step(1024, "highest", "full"), peer_step(1024, "float32", "--full")
    generation = [str(EXAMPLES / "generate_time"), str(MODEL), "flex", "highest", "512", "64"]
    return [
        *lora,
        *longer,
        conversations("epoch-rows", "one epoch, against TRL with one row a target", "epoch", "rows", data, 6.0),
        conversations("epoch-windows", "one epoch, against one row a conversation", "epoch", "windows", data, 1.8),
        conversations("scoring", "scoring two arms, against one forward pass a target", "score", "score", data, 6.0, "high"),
        conversations("labels", "scoring five labels, against one forward pass a label", "labels", "score", data, 5.0, "high"),
        Row("generation", "greedy generation, 512 + 64 tokens, f32", generation, peer("generate", "--tokens", "512"), SPEED, 2.0),
        Row("full-1024-f32", "full fine-tuning step, 1,024 tokens, f32", *full, SPEED, 1.3),
    ]
