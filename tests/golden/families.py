"""Golden numbers of every supported family of models, from transformers: nats, logits and gradients of tiny models.

Needs torch and transformers (`scripts/bench/requirements.txt`). Usage: python3 tests/golden/families.py [FOLDER]

Writes `FOLDER/NAME.json`, one a model; the folder is `tests/golden/families` if none is given. Weights are not in these files: both sides make them from their
names, by `numbers` here and in `crates/undertone-model/tests/families.rs`.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "families"
TOKENS = 48
VOCABULARY = 64
MASK = (1 << 64) - 1

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}


def rope(method: str, **settings: object) -> dict:
    return {"rope_parameters": {"rope_type": method, "rope_theta": 10000.0, **settings}}


LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
MODELS = {
    "llama": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-llama3": ("llama", rope("llama3", **LLAMA3)),
    "llama-linear": ("llama", rope("linear", factor=2.0)),
    "llama-dynamic": ("llama", rope("dynamic", factor=2.0)),
    "llama-yarn": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=32)),
    "qwen2": ("qwen2", {}),
    "qwen2-windows": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1, "tie_word_embeddings": True},
    ),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "mistral": ("mistral", {"sliding_window": 8}),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 10, "num_hidden_layers": 3, "sliding_window_pattern": 3},
    ),
    "gemma3-scaled": (
        "gemma3_text",
        {
            "head_dim": 4,
            "sliding_window": 5,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {"sliding_window": 8}),
    "phi3-partial": ("phi3", {"partial_rotary_factor": 0.5, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.4,
            "residual_multiplier": 0.3,
            "logits_scaling": 0.25,
            "attention_bias": True,
        },
    ),
}


def numbers(name: str, count: int) -> torch.Tensor:
    """`count` numbers from -0.2 to 0.2: SplitMix64 from the FNV-1a hash of a name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    values = []
    for _ in range(count):
        state = state + 0x9E3779B97F4A7C15 & MASK
        mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
        values.append(((mixed >> 40) / (1 << 24) - 0.5) * 0.4)
    return torch.tensor(values, dtype=torch.float64)


def measured(name: str, gradient: torch.Tensor) -> list[float]:
    """The Euclidean norm of a gradient, and its product with numbers of its name."""
    flat = gradient.detach().double().flatten()
    return [flat.norm().item(), (flat @ numbers(f"gradient of {name}", flat.numel())).item()]


def adapters(name: str, gradient: torch.Tensor, matrices: dict[str, torch.Tensor], scale: float) -> dict[str, list[float]]:
    """The gradients of A and B from that of W + s B A."""
    path = name.removesuffix(".weight")
    a, b = matrices["lora_A"], matrices["lora_B"]
    parts = {"lora_A": scale * b.T @ gradient.double(), "lora_B": scale * gradient.double() @ a.T}
    return {f"{path}.{part}.weight": measured(f"{path}.{part}.weight", value) for part, value in parts.items()}


def golden(model_type: str, settings: dict) -> dict:
    config = transformers.AutoConfig.for_model(model_type, **{**COMMON, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    is_norm = lambda name: name.endswith("norm.weight") and model_type != "gemma3_text"
    for name, parameter in model.named_parameters():
        values = numbers(name, parameter.numel()) + (1.0 if is_norm(name) else 0.0)
        parameter.data = values.float().reshape(parameter.shape)
    model.tie_weights()
    ids = torch.arange(TOKENS) * 29 % VOCABULARY
    kept = config.to_dict()
    for key in ("_name_or_path", "transformers_version", "pad_token_id"):
        kept.pop(key, None)
    kept["architectures"] = [type(model).__name__]

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        logits = model(ids[None], use_cache=False).logits[0]
        nats = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        nats.sum().backward()
        return logits, nats

    logits, nats = run()
    gradients = {name: measured(name, parameter.grad) for name, parameter in model.named_parameters()}
    result = {
        "config": kept,
        "ids": ids.tolist(),
        "nats": nats.tolist(),
        "last_logits": logits[-1].tolist(),
        "gradients": gradients,
    }
    if model_type == "phi3":
        return result
    # Adapters of rank 2 on all linear layers, alpha 3.
    scale, learned = 1.5, {}
    linears = {name: one for name, one in model.named_parameters() if name.endswith("_proj.weight")}
    for name, parameter in linears.items():
        path, (out, width) = name.removesuffix(".weight"), parameter.shape
        learned[name] = {
            "lora_A": numbers(f"{path}.lora_A.weight", 2 * width).reshape(2, width),
            "lora_B": numbers(f"{path}.lora_B.weight", out * 2).reshape(out, 2),
        }
        parameter.data += (scale * learned[name]["lora_B"] @ learned[name]["lora_A"]).float()
    _, nats = run()
    of_adapters = {}
    for name, parameter in linears.items():
        of_adapters |= adapters(name, parameter.grad, learned[name], scale)
    return result | {"lora_nats": nats.tolist(), "lora_gradients": of_adapters}


def rounded(value: object) -> object:
    """Eight digits, of which f32 has seven."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return value


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (model_type, settings) in MODELS.items():
        numbers_of_model = rounded(golden(model_type, settings))
        path = FOLDER / f"{name}.json"
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in numbers_of_model.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{path.name}: {path.stat().st_size} bytes")


main()
