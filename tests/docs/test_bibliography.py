"""What the code and the pages cite by number is in the bibliography, with a link that leads to that number."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bibliography.md").read_text()
FOLDERS = ("cellenv", "rewards", "algorithms", "examples", "docs")
SOURCES = [file for folder in FOLDERS for kind in ("*.py", "*.md") for file in (ROOT / folder).rglob(kind)]
NUMBER = re.compile(r"arXiv[:.\s]\s*(\d{4}\.\d{5})|doi:(10\.\d+/[\w.-]+\w)")


def cited(text: str) -> set[str]:
    return {arxiv or doi for arxiv, doi in NUMBER.findall(text)}


def test_everything_cited_is_listed():
    found = {number: file for file in SOURCES for number in cited(file.read_text())}
    assert len(found) > 20
    assert {number: file.name for number, file in found.items() if number not in cited(PAGE)} == {}


def test_links_lead_to_what_they_name():
    links = re.findall(r"\[(?:arXiv|doi):([^\]]+)\]\(https://(?:arxiv.org/abs|doi.org)/([^)]+)\)", PAGE)
    assert links and all(name == target for name, target in links)
    assert {name for name, _ in links} == cited(PAGE)


@pytest.mark.parametrize("text", ["arXiv:2509.16117, eq. 2", "(arXiv 2509.16117)", "arXiv.2509.16117"])
def test_a_number_is_found_however_it_is_written(text):
    assert cited(text) == {"2509.16117"}
