"""Golden numbers of every type of blocks in GGUF files, by ggml's own Python package.

Needs gguf (pip install gguf==0.19.0) and numpy. Usage: python3 tests/golden/quants.py

Writes `tests/golden/quants.json`: for each type, the bytes of 256 values, in hexadecimal, and the values.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def main() -> None:
    random = np.random.default_rng(0)
    found = {}
    for name in TYPES:
        kind = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[kind]
        while name not in found:
            data = random.integers(0, 256, size * (256 // values), dtype=np.uint8)
            numbers = dequantize(data.reshape(1, -1), kind).flatten()
            # Random scales may be infinite, or too large to tell a fault.
            if np.isfinite(numbers).all() and 1e-3 < np.abs(numbers).max() < 1e3:
                found[name] = {"number": int(kind), "bytes": data.tobytes().hex(), "values": [float(f"{x:.6g}") for x in numbers]}
    (Path(__file__).parent / "quants.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
