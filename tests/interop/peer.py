"""Load both exports with transformers and PEFT, and compare their logits with ours.

    UNDERTONE_PEER_OUT=OUT cargo test --release --workspace --test export peer
    python tests/interop/peer.py OUT

Needs torch, transformers and peft. Prints the largest absolute differences; exits with 1 if one of
the exports differs by more than 2e-3, or if the adapter makes no difference to the base model.
"""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 2e-3


def main(out: Path) -> int:
    expected = json.loads((out / "expected.json").read_text())
    tokens = torch.tensor([expected["tokens"]])
    ours = torch.tensor(expected["logits"]).view(len(expected["tokens"]), -1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")

    def difference(model) -> float:
        with torch.no_grad():
            return (model.eval()(tokens).logits[0] - ours).abs().max().item()

    def load(folder):
        # No type is asked for: the merged folder has to say itself that it is float32.
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert model.dtype == torch.float32, model.dtype
        return model

    base = load(expected["base"])
    merged = load(out / "merged")
    found = {"base, without the adapter": difference(base), "merged": difference(merged)}
    adapted = PeftModel.from_pretrained(base, out / "adapter")
    found["adapter"] = difference(adapted)
    found["adapter, merged by PEFT"] = difference(adapted.merge_and_unload())
    for name, largest in found.items():
        print(f"{name}: {largest:.3g}")

    for folder in ["merged", "adapter"]:
        tokenizer = AutoTokenizer.from_pretrained(out / folder)
        assert tokenizer(expected["text"], add_special_tokens=False).input_ids == expected["tokens"], folder
        turns = [{"role": role, "content": "x"} for role in ["system", "user", "reason", "assistant", "reaction"]]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        expected_text = "".join(f"<|im_start|>{turn['role']}\nx<|im_end|>\n" for turn in turns)
        assert text == expected_text, text
        opened = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert opened == expected_text + "<|im_start|>user\n", opened
        opened = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, generation_role="reason"
        )
        assert opened == expected_text + "<|im_start|>reason\n", opened
        assert tokenizer.eos_token == "<|im_end|>", tokenizer.eos_token

    without, *exports = found.values()
    exports += [family(folder) for folder in sorted((out / "families").iterdir())]
    return 0 if without > 0.1 and all(largest <= TOLERANCE for largest in exports) else 1


def family(folder: Path) -> float:
    """The difference of our adapter of a tiny model in PEFT; also writes an adapter that PEFT makes, with its logits."""
    expected = json.loads((folder / "expected.json").read_text())
    tokens = torch.tensor([expected["tokens"]])
    ours = torch.tensor(expected["logits"]).view(len(expected["tokens"]), -1)

    def load():
        # Phi 3's own padding token is outside the vocabulary of a tiny model.
        config = AutoConfig.from_pretrained(folder / "base", pad_token_id=None)
        return AutoModelForCausalLM.from_pretrained(
            folder / "base", config=config, dtype=torch.float32, attn_implementation="eager"
        )

    def logits(model):
        with torch.no_grad():
            return model.eval()(tokens).logits[0]

    difference = (logits(PeftModel.from_pretrained(load(), folder / "adapter")) - ours).abs().max().item()
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(load(), config)
    theirs.save_pretrained(folder / "theirs")
    (folder / "theirs.json").write_text(json.dumps({"logits": logits(theirs).flatten().tolist()}))
    print(f"{folder.name}: adapter {difference:.3g}")
    return difference


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
