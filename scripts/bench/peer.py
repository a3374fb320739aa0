"""The reference trainer's side of `make bench`: transformers, PEFT and TRL on the CPU.

In: a task and its numbers, as arguments. Out: lines of JSON on standard output. One process measures one
thing, so that the peak memory of the process is that of the measurement.
"""

import argparse
import ctypes
import json
import logging
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Longer rows need the allocator set to hand memory back: by default they take more than 16 GiB.
TIGHT_TOKENS = 4096


def load(folder: str, dtype: torch.dtype) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def set_allocator(tight: bool) -> None:
    """Sets the size from which glibc's allocator hands freed blocks back to the system: 1 MiB if `tight`, else 32 MiB,
    where its own rule ends up with tensors like ours. 32 MiB is faster, with up to four times the memory."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    mebibytes = 1 if tight else 32
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_threshold, mebibytes << 20)
    libc.mallopt(m_trim_threshold, mebibytes << 21)
    libc.malloc_trim(0)


def say(record: dict) -> None:
    print(json.dumps(record), flush=True)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(arguments: argparse.Namespace) -> None:
    """Optimiser steps on one row, forward, backward and AdamW: LoRA of rank 16 on all seven linear layers, or all weights."""
    if arguments.limit_mib is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (arguments.limit_mib << 20,) * 2)
    if arguments.tight:
        set_allocator(tight=True)
    model = load(arguments.model, getattr(torch, arguments.dtype))
    model.config.use_cache = False
    if not arguments.full:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEAR))
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
    vocabulary = model.config.vocab_size
    ids = torch.tensor([[index * 7919 % vocabulary for index in range(arguments.tokens)]])
    labels = torch.full_like(ids, -100)
    # A quarter of the tokens, in spans of 16: as in `step_time.rs`.
    marked = [index for start in range(48, arguments.tokens - 15, 64) for index in range(start, start + 16)]
    labels[0, marked] = ids[0, marked]
    seconds = []
    for _ in range(arguments.steps + 1):
        begun = time.perf_counter()
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[1:])
    say({"tokens_per_second": arguments.tokens / median, "loss": loss.item(), "peak_mib": peak_mib()})


class Trainer:
    """TRL's trainer. It starts from the same adapters as the other side, and takes one optimiser step at a time."""

    def __init__(self, folder: str, adapter: Path, output: str) -> None:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        model = PeftModel.from_pretrained(load(folder, torch.float32), adapter, is_trainable=True)
        config = SFTConfig(output_dir=output, use_cpu=True, bf16=False, report_to=[], per_device_train_batch_size=1)
        # Never used: the rows come from the caller, as token ids.
        nothing = Dataset.from_list([{"input_ids": [0, 0], "labels": [0, 0]}])
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.trainer = SFTTrainer(model=model, args=config, train_dataset=nothing, processing_class=tokenizer)
        self.model = self.trainer.model
        self.model.train()
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.0)

    def step(self, rows: list[tuple[list[int], list[int]]]) -> None:
        """One step over the input ids and labels of some rows; the loss is the mean over all their targets."""
        targets = sum(label != -100 for _, labels in rows for label in labels)
        self.optimizer.zero_grad()
        for ids, labels in rows:
            set_allocator(tight=len(ids) > TIGHT_TOKENS)
            inputs = self.trainer.data_collator([{"input_ids": ids, "labels": labels}])
            self.trainer.compute_loss(self.model, inputs, num_items_in_batch=torch.tensor(targets)).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


@torch.inference_mode()
def nats(model: torch.nn.Module, prompt: list[int], completion: list[int]) -> float:
    """The nats of a completion, by one forward pass with logits for it alone."""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(completion) + 1).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits.double(), ids[0, -len(completion) :], reduction="sum").item()


@torch.inference_mode()
def nats_of_spans(model: torch.nn.Module, window: dict) -> dict[str, float]:
    """The nats of every target of a window, by one forward pass."""
    ids = torch.tensor([window["tokens"]])
    positions = [index - 1 for start, end in window["spans"] for index in range(start, end)]
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=torch.tensor(positions)).logits[0]
    each = torch.nn.functional.cross_entropy(logits.double(), ids[0, [at + 1 for at in positions]], reduction="none")
    parts = each.split([end - start for start, end in window["spans"]])
    return {key: part.sum().item() for key, part in zip(window["keys"], parts, strict=True)}


def conversations(arguments: argparse.Namespace) -> None:
    """Processes one conversation for each line of standard input; prints records as `conversation_time.rs` does."""
    folder = Path(arguments.folder)
    lines = (folder / "rows.jsonl").read_text().splitlines()
    todo = [json.loads(line) for line in lines]
    trains = arguments.task in ("rows", "windows")
    if trains:
        output = tempfile.mkdtemp()
        trainer = Trainer(arguments.model, folder / "adapter", output)
        model = trainer.model
    else:
        model = load(arguments.model, torch.float32).eval()
    say({"conversations": len(todo)})
    done, results = [], {}
    for conversation, _ in zip(todo, sys.stdin):
        begun = time.perf_counter()
        if arguments.task == "rows":
            trainer.step([
                (row["prompt"] + row["completion"], [-100] * len(row["prompt"]) + row["completion"])
                for row in conversation["rows"]
            ])
        elif arguments.task == "windows":
            trainer.step([(window["tokens"], labels_of(window)) for window in conversation["windows"]])
        else:
            results |= {row["key"]: nats(model, row["prompt"], row["completion"]) for row in conversation["rows"]}
        seconds = time.perf_counter() - begun
        # Hands freed memory back before the other program's turn.
        set_allocator(tight=False)
        say({"id": conversation["id"], "seconds": seconds})
        done.append(conversation)
    peak = peak_mib()
    if trains:
        model.eval()
        for conversation in done:
            for window in conversation["windows"]:
                results |= nats_of_spans(model, window)
    say({"peak_mib": peak, "nats": results})


def labels_of(window: dict) -> list[int]:
    labels = [-100] * len(window["tokens"])
    for start, end in window["spans"]:
        labels[start:end] = window["tokens"][start:end]
    return labels


@torch.inference_mode()
def generate(arguments: argparse.Namespace) -> None:
    """Greedy generation with transformers' cache: exactly `new_tokens` tokens after a prompt of `tokens`."""
    model = load(arguments.model, getattr(torch, arguments.dtype)).eval()
    ids = torch.tensor([[index * 7919 % model.config.vocab_size for index in range(arguments.tokens)]])
    seconds = []
    for _ in range(arguments.steps + 1):
        begun = time.perf_counter()
        count = {"max_new_tokens": arguments.new_tokens, "min_new_tokens": arguments.new_tokens}
        written = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **count)
        seconds.append(time.perf_counter() - begun)
    new = written[0, arguments.tokens :].tolist()
    median = statistics.median(seconds[1:])
    say({"tokens_per_second": len(new) / median, "ids": new, "peak_mib": peak_mib()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["step", "generate", "rows", "windows", "score"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--matmul-precision", default="highest", choices=["highest", "high", "medium"], help="of float32")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--tight", action="store_true", help="set the allocator to hand memory back: slower, and less of it")
    parser.add_argument("--limit-mib", type=int, help="of memory; more is refused, and ends the process")
    parser.add_argument("--folder", help="with the conversations' rows")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_float32_matmul_precision(arguments.matmul_precision)
    {"step": step, "generate": generate}.get(arguments.task, conversations)(arguments)


if __name__ == "__main__":
    main()
