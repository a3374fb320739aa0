#!/usr/bin/env python3
"""Makes text.json: chrF2 by sacreBLEU and ROUGE-L by Google's rouge-score of some pairs of texts.

usage: pip install sacrebleu==2.5.1 rouge-score==0.1.2 && python3 make_text.py > text.json
"""

import json

from rouge_score import rouge_scorer
from sacrebleu.metrics import CHRF

PAIRS = [
    ("Can you make a checklist?", "Please turn this into a checklist."),
    ("Can you make a checklist?", "Can you make a checklist?"),
    ("yes", "yes"),
    ("Yes", "yes"),
    ("ok", "thanks"),
    ("a", "b"),
    ("", "something"),
    ("something", ""),
    ("", ""),
    ("naïve café — 東京 🙂", "naïve cafe, 東京"),
    ("the cat sat on the mat", "on the mat the cat sat"),
    ("What about  the\nsecond one, can it be shorter?", "what about the 2nd one? shorter please"),
    ("aaaaaaaaaaaa", "aaaa"),
    ("It's 10:30 now; isn't it?", "its 10 30 now isn t it"),
]

chrf = CHRF()
rouge = rouge_scorer.RougeScorer(["rougeL"])
rows = [
    {
        "hypothesis": hypothesis,
        "reference": reference,
        "chrf": chrf.sentence_score(hypothesis, [reference]).score,
        "rouge_l": 100 * rouge.score(reference, hypothesis)["rougeL"].fmeasure,
    }
    for hypothesis, reference in PAIRS
]
print(json.dumps(rows, ensure_ascii=False, indent=1))
