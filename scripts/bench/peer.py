"""The reference trainer's side of `make bench`: transformers + PEFT on the CPU.

In: a task and its numbers, as arguments. Out: one JSON object on standard output. One process measures one
thing, so that the peak memory of the process is that of the measurement.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def load(folder: str, dtype: torch.dtype, full: bool) -> torch.nn.Module:
    """SmolLM2 with LoRA of rank 16 on all seven linear layers, or every weight trainable."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    model.config.use_cache = False
    if not full:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEAR))
    model.train()
    return model


def supervised(count: int) -> list[int]:
    """A quarter of the tokens, in spans of 16: as in `step_time.rs`."""
    return [index for start in range(48, count - 15, 64) for index in range(start, start + 16)]


def step(arguments: argparse.Namespace) -> dict:
    """One optimiser step on one row, forward, backward and AdamW."""
    model = load(arguments.model, getattr(torch, arguments.dtype), arguments.full)
    if arguments.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
    vocabulary = model.config.vocab_size
    ids = torch.tensor([[index * 7919 % vocabulary for index in range(arguments.tokens)]])
    labels = torch.full_like(ids, -100)
    marked = supervised(arguments.tokens)
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
    return {"median_seconds": median, "tokens_per_second": arguments.tokens / median, "loss": loss.item()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["step"])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    arguments = parser.parse_args()
    result = {"step": step}[arguments.task](arguments)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"task": arguments.task, "dtype": arguments.dtype, "tokens": arguments.tokens, **result}))


if __name__ == "__main__":
    main()
