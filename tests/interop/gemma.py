"""Compare our import of a real GGUF file, Gemma 3 270M in Q4_K_M, with transformers' own reader of GGUF.

    undertone import GGUF FOLDER
    python tests/interop/gemma.py GGUF FOLDER

Needs torch, transformers and gguf. Prints the token ids of a text and the largest difference of a logit; exits with 1 if the ids
differ, or a logit by more than 1e-4.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "What did I mean?  I asked for 3 recipes in 2026,\n\nand got twelve:\t  Gemüse, 豆 🎉 <b>x</b>   four   spaces    end"
TOLERANCE = 1e-4


def main(gguf: Path, folder: Path) -> int:
    theirs = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    ids = AutoTokenizer.from_pretrained(folder)(TEXT).input_ids
    same = ids == AutoTokenizer.from_pretrained(**theirs)(TEXT).input_ids

    def logits(model):
        with torch.no_grad():
            return model.eval()(torch.tensor([ids])).logits[0]

    ours = logits(AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager"))
    reference = logits(AutoModelForCausalLM.from_pretrained(**theirs, attn_implementation="eager", dtype=torch.float32))
    difference = (ours - reference).abs().max().item()
    print(f"Gemma 3 270M, Q4_K_M: {len(ids)} ids {'equal' if same else 'differ'}, largest difference of a logit {difference:.1e}")
    return 0 if same and difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
