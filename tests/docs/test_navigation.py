"""Every page of docs/ is in the navigation, once."""

import re
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
GENERATED = {"tutorials/index"}  # written by the build


def test_every_page_is_in_the_navigation_once():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    entries = Counter(line for tree in trees for line in tree.splitlines() if line and not line.startswith(":"))
    pages = {file.stem for file in DOCS.glob("*.md")} - {"index"}
    assert {*entries} == pages | GENERATED, "docs/index.md lists what is in the navigation"
    assert max(entries.values()) == 1
