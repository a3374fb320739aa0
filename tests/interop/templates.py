"""Renders published chat templates with Jinja as transformers sets it up, and compares with ours.

    cargo build --release --workspace --example chat_format
    python tests/interop/templates.py FOLDER

FOLDER holds `*.jinja`, such as `models/templates` of llama.cpp. For each: is our rendering the same, and is the format that we
find that of the rendering? Exits with 1 if one differs; a template that we refuse is listed with the cause.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

PROGRAM = Path(__file__).parents[2] / "target/release/examples/chat_format"
# Texts with the forms of special tokens; the templates' own tokenizers are not at hand.
SPECIAL = re.compile(
    r"<\|[^|<>\n']*\|>|<[a-z]+_of_[a-z]+>|<seed:[a-z]+>|\[/?[A-Z_]{3,}\]|</?s>|<｜[^｜<>\n]*｜>|<(?:bos|eos)>"
    r"|<(?:start|end)_of_turn>|<\|[a-z]+>|<[a-z]+\|>|\]<\][a-z]+\[>\[|\[e~\[|\]~b\]|\]~!b\["
)
TURNS = [["user", "One"], ["assistant", "Two"], ["user", "Three"], ["assistant", "Four"], ["user", "Five"]]


def expected(source: str, bos: str, eos: str) -> str | None:
    """What transformers renders; nothing if it refuses the conversation."""
    messages = [{"role": role, "content": content} for role, content in TURNS]
    try:
        template = _compile_jinja_template(source)
        return template.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=False, bos_token=bos, eos_token=eos
        )
    except Exception as refused:  # any error of a template is a refusal
        print(f"  transformers refuses it: {refused}")
        return None


def of_format(found: dict) -> str:
    """The conversation in the format that we found, without what the template writes before it."""
    turns = [(found["turns"][role], content) for role, content in TURNS]
    return "".join(turn["header"] + content + turn["end"] + turn["separator"] for turn, content in turns)


def main(folder: Path) -> int:
    paths = sorted(folder.rglob("*.jinja"))
    asked = []
    for path in paths:
        source = path.read_text()
        tokens = {"bos": "<BOS>", "eos": "<EOS>"}
        special = sorted({*SPECIAL.findall(source), *tokens.values()})
        asked.append({"source": source, **tokens, "special": special, "messages": TURNS})
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    answers = subprocess.run([PROGRAM], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    print(f"transformers {transformers.__version__}, {len(paths)} templates")
    counts = {"same": 0, "found": 0, "not rendered by transformers": 0, "refused": 0, "wrong": 0}
    for path, one, line in zip(paths, asked, answers, strict=True):
        answer, theirs = json.loads(line), expected(one["source"], one["bos"], one["eos"])
        dated = "strftime_now" in one["source"]
        if theirs is not None and not dated and answer["rendered"] != theirs:
            counts["wrong"] += 1
            print(f"WRONG  {path.name}: we render {answer['rendered']!r}, and transformers {theirs!r}; {answer['error']}")
            continue
        counts["same"] += theirs is not None and not dated
        if answer["format"] is None:
            counts["refused"] += 1
            print(f"refused {path.name}: {answer['error'][:200]}")
            continue
        ours = of_format(answer["format"])
        # A template may close the last turn in another way, and end a message with no token.
        whole = ours[: ours.rindex("Five") + 4]
        if theirs is None:
            counts["not rendered by transformers"] += 1
        elif whole in theirs:
            counts["found"] += 1
        else:
            counts["wrong"] += 1
            print(f"WRONG  {path.name}: {whole!r} is not in {theirs!r}")
    print(json.dumps(counts))
    return 1 if counts["wrong"] or not counts["found"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
