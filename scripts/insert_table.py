"""Puts a table into a document, between `<!-- NAME -->` and `<!-- end of NAME -->`.

    python3 scripts/insert_table.py DOCUMENT NAME FILE
"""

import re
import sys
from pathlib import Path

document, name, table = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text().strip()
before, after = f"<!-- {name} -->", f"<!-- end of {name} -->"
text, places = re.subn(f"{before}.*?{after}", lambda _: f"{before}\n\n{table}\n\n{after}", document.read_text(), flags=re.S)
if places != 1:
    sys.exit(f"{document} has no place for the table {name}")
document.write_text(text)
