"""Every page of the built site in a real browser: `make check-docs`. The folder is that of the variable SITE."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.chromium import launched, needs_chromium

SITE = Path(os.environ.get("SITE", "")).absolute()
pytestmark = [needs_chromium, pytest.mark.skipif("SITE" not in os.environ, reason="no built site: make check-docs")]
WIDTHS = (400, 1600)

LINKS = "[...document.links, ...document.images].map(e => e.href || e.src).filter(url => url.startsWith('file:'))"
IDS = "[...document.querySelectorAll('[id]')].map(e => e.id)"
UNDRAWN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
TOO_WIDE = "document.documentElement.scrollWidth - innerWidth"
BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"


@dataclass
class Visited:
    """What a page complained of, asked for, holds and leads to."""

    messages: list[str] = field(default_factory=list)
    requests: set[str] = field(default_factory=set)  # schemes
    ids: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    undrawn: list[str] = field(default_factory=list)
    too_wide: dict[int, int] = field(default_factory=dict)  # width of the window -> px beyond it
    brightness: dict[str, int] = field(default_factory=dict)  # colour scheme -> that of the paper, 0 to 765


def visit(page, file: Path, found: Visited) -> Visited:
    """Open a file in the tab, look at it at all widths and in both colour schemes."""
    page.goto(file.as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        found.too_wide[width] = page.evaluate(TOO_WIDE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found.brightness[scheme] = page.evaluate(BRIGHTNESS)
    found.ids, found.links = {*page.evaluate(IDS)}, {*page.evaluate(LINKS)}
    found.undrawn = page.evaluate(UNDRAWN)
    return found


@pytest.fixture(scope="module")
def site() -> dict[Path, Visited]:
    """All pages, visited."""
    visited = {file: Visited() for file in sorted(SITE.rglob("*.html"))}
    with launched() as browser:
        page, now = browser.new_page(), Visited()
        page.on("console", lambda message: now.messages.append(message.text))
        page.on("pageerror", lambda error: now.messages.append(str(error)))
        page.on("request", lambda request: now.requests.add(urlsplit(request.url).scheme))
        for file in visited:
            now = visited[file]
            visit(page, file, now)
    return visited


def test_pages_are_there(site):
    names = {file.relative_to(SITE).as_posix() for file in site}
    assert {"index.html", "quickstart.html", "tutorials/index.html", "api.html", "cli/train-nft.html"} <= names


def test_no_page_complains_or_asks_the_network(site):
    assert {file: found.messages for file, found in site.items() if found.messages} == {}
    assert set().union(*(found.requests for found in site.values())) <= {"file", "data"}


def test_every_link_leads_to_a_file_and_a_place_in_it(site):
    broken = []
    for file, found in site.items():
        for link in found.links:
            url, fragment = urldefrag(link)
            target = Path(unquote(urlsplit(url).path))
            if not target.is_file() or (target in site and fragment and unquote(fragment) not in site[target].ids):
                broken.append((file.name, link))
    assert broken == [] and sum(len(found.links) for found in site.values()) > 1000


def test_every_picture_is_drawn(site):
    assert {file: found.undrawn for file, found in site.items() if found.undrawn} == {}


def test_no_page_is_wider_than_the_window(site):
    wide = {(file.name, width): px for file, found in site.items() for width, px in found.too_wide.items() if px > 0}
    assert wide == {}


def test_paper_is_light_or_dark_as_the_reader_has_it(site):
    assert min(found.brightness["light"] for found in site.values()) > 600
    assert max(found.brightness["dark"] for found in site.values()) < 200
