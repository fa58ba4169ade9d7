"""The page of an evaluation in a real browser: no error, every control works, at three widths, light and dark."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from algorithms.evaluation.pages.merged_runs import merge_runs
from algorithms.evaluation.pages.report_page import page as draw_page
from algorithms.evaluation.pages.report_page import save_page
from algorithms.evaluation.stored_run import BestOfNFile, StoredRun
from cellenv.json_io import dump_json, validate
from tests.algorithms.evaluation.evaluation_toys import CLASSES, best_of_n, cells, evaluation, log
from tests.chromium import launched, needs_chromium

pytestmark = needs_chromium
WIDTHS = (400, 800, 1600)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The page of a run, with every section, and that of three runs."""
    selection = validate(dump_json(best_of_n()), BestOfNFile, Path("best_of_n.json"))
    run = StoredRun(evaluation=evaluation(), cells=cells(n=36), logs={"rl": log()}, best_of_n=selection)
    runs = {"one": run, "three": merge_runs(dict.fromkeys(("nft", "grpo", "a-longer-name"), run))}
    folder = tmp_path_factory.mktemp("report")
    for name, content in runs.items():
        html = draw_page(content, title=f"{name} on held-out cells", phases={"sample": 30.0, "measure": 10.0})
        save_page(html, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in runs}


@dataclass
class Opened:
    """A page, and what it complained of or asked for."""

    page: object
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser, pages):
    """Opens a page at a width and in a colour scheme; whatever it complains of in the end is an error."""
    opened = []

    def open_at(width: int, scheme: str = "light", name: str = "one", **options) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.messages.append(message.text))
        found.page.on("pageerror", lambda error: found.messages.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url.partition(":")[0]))
        found.page.goto(pages[name].as_uri())
        opened.append((context, found))
        return found

    yield open_at
    for context, found in opened:
        context.close()
        assert found.messages == [] and {*found.requests} <= {"file", "data"}


@pytest.mark.parametrize(("scheme", "name"), [("light", "one"), ("dark", "one"), ("dark", "three")])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_draws_every_picture_and_can_be_read(width, scheme, name, open_page):
    page = open_page(width, scheme, name).page
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("[...document.images].filter(i => i.offsetParent && !i.naturalWidth).length") == 0
    assert page.evaluate("document.images.length") > 20
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(channels(paper)) < 200) == (scheme == "dark")
    for tone in ("soft", "good", "bad"):
        colour = page.evaluate(f"getComputedStyle(document.querySelector('.page .{tone}')).color")
        assert contrast(colour, paper) >= 4.5, tone


@pytest.mark.parametrize("width", WIDTHS)
def test_the_filter_shows_one_mechanism_with_all_its_contexts(width, open_page):
    page = open_page(width).page
    visible = "[...document.querySelectorAll('.cells .card')].filter(c => c.offsetParent).length"
    at_first = page.evaluate(visible)
    page.get_by_role("combobox", name="Mechanism").select_option(CLASSES[1])
    assert page.locator(".mechanism:visible h3").all_inner_texts() == [CLASSES[1]]
    one = page.evaluate(visible)
    assert one == page.locator(f"[data-mechanism='{CLASSES[1]}'] .card").count() > at_first / len(CLASSES)
    assert page.locator("#count").inner_text() == f"{one} contexts"
    page.get_by_role("combobox", name="Mechanism").select_option("all")
    assert page.evaluate(visible) == at_first and page.locator("#count").inner_text() == f"{at_first} contexts"


@pytest.mark.parametrize(("label", "paths"), [("Outlines", "nuclei"), ("Nuclei outside cells", "outside")])
def test_outlines_are_shown_and_hidden(label, paths, open_page):
    page = open_page(800).page
    drawn = f"getComputedStyle(document.querySelector('.picture .{paths}')).display"
    assert page.evaluate(drawn) != "none"
    page.get_by_label(label).uncheck()
    assert page.evaluate(drawn) == "none"
    page.get_by_label(label).check()
    assert page.evaluate(drawn) != "none"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_click_enlarges_and_arrows_go_on(width, open_page):
    page = open_page(width).page
    dialog, title = page.get_by_role("dialog"), page.locator("#viewer-title")
    cards = page.locator(".cells .card:visible")
    picture = cards.first.locator("img").first
    picture.scroll_into_view_if_needed()
    small = picture.bounding_box()
    page.mouse.click(small["x"] + small["width"] / 2, small["y"] + small["height"] / 2)
    first = title.inner_text()
    assert dialog.is_visible() and cards.first.locator("button").inner_text().split()[0] in first
    assert dialog.locator("img").first.bounding_box()["width"] > 1.5 * small["width"]
    assert dialog.get_by_role("table").is_visible() and "total" in dialog.inner_text()
    dialog.get_by_role("button", name="Next").click()
    second = title.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert title.inner_text() == second != first
    dialog.get_by_role("button", name="Previous").click()
    page.keyboard.press("ArrowLeft")  # from the first to the last
    assert title.inner_text() not in (first, second)
    dialog.get_by_role("button", name="Close").click()
    assert dialog.is_hidden()


def test_the_keyboard_alone_enlarges_and_comes_back(open_page):
    page = open_page(1600).page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.open')"):
            break
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    assert page.evaluate("document.querySelector('#viewer').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").is_hidden()
    assert page.evaluate("document.activeElement.textContent") == name


def test_a_click_beside_the_enlarged_pictures_closes_them(open_page):
    page = open_page(800).page
    page.locator(".open:visible").first.click()
    page.mouse.click(2, 2)
    assert page.get_by_role("dialog").is_hidden()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_link_of_the_contents_leads_to_its_heading(width, open_page):
    page = open_page(width, reduced_motion="reduce").page
    links = page.locator("nav a").all()
    assert len(links) == 8
    for link in links:
        link.click()
        target = link.get_attribute("href")
        assert page.evaluate(f"document.querySelector('{target}').getBoundingClientRect().top < innerHeight")
        page.evaluate("scrollTo(0, 0)")


def test_what_can_be_reached_has_a_name_and_pictures_a_text(open_page):
    page = open_page(800).page
    reached = "a, button, select, input, [tabindex], section, dialog, svg[role=img]"
    named = (
        "e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
    )
    nameless = f"[...document.querySelectorAll('{reached}')].filter(e => !({named})).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(nameless) == []
    assert page.evaluate("[...document.images].filter(i => !i.alt).length") == 0
    assert page.evaluate("[...document.querySelectorAll('main, nav, h1')].length") == 3
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter(h => !h.closest('dialog')).map(h => +h.tagName[1])"
    )
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_moves_for_those_who_ask_for_that(open_page):
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert open_page(800, reduced_motion="reduce").page.evaluate(behaviour) == "auto"
    assert open_page(800, reduced_motion="no-preference").page.evaluate(behaviour) == "smooth"


def channels(colour: str) -> list[int]:
    """Of "rgb(1, 2, 3)"."""
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21. Source: WCAG 2.2."""

    def luminance(colour: str) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in channels(colour))
        ]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
