import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from algorithms.evaluation.headline import Pair
from algorithms.evaluation.pages.report_page import page, save_page, summary, tones, what_got_worse
from algorithms.evaluation.stored_run import BestOfNFile, StoredRun
from cellenv.json_io import dump_json, validate
from tests.algorithms.evaluation import evaluation_toys
from tests.algorithms.evaluation.evaluation_toys import JUDGES, REWARDS, best_of_n, cells, interval, log

RL = Pair("rl", "base")


@pytest.fixture
def evaluation() -> dict:
    return evaluation_toys.evaluation()


@pytest.fixture
def run(evaluation) -> StoredRun:
    selection = validate(dump_json(best_of_n()), BestOfNFile, Path("best_of_n.json"))
    return StoredRun(evaluation=evaluation, cells=cells(), logs={"rl": log()}, best_of_n=selection)


class Page(HTMLParser):
    """Collects the addresses that a page would fetch, its pictures, and the headings with an address."""

    def __init__(self, html: str):
        super().__init__()
        self.fetched, self.pictures, self.links, self.sections = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found)
        for name in ("src", "href", "srcset", "action", "data"):
            address = found.get(name)
            if address and address.startswith("#"):
                self.links.append(address)
            elif address and not address.startswith("data:image/webp;base64,"):
                self.fetched.append(address)
        if tag == "h2" and "id" in found:
            self.sections.append(f"#{found['id']}")


def test_a_page_has_every_section_and_fetches_nothing(run):
    html = page(run, phases={"sample": 30.0, "measure": 10.0})
    found = Page(html)
    assert found.fetched == [] and not re.search(r"https?://|@import|url\(", html)
    names = ["cells", "gains", "worse", "distributions", "best-of-n", "training", "figures", "checks"]
    assert found.links == [f"#{name}" for name in names] and [*dict.fromkeys(found.sections)][:8] == found.links
    shown = sum(len(context.groups) * 4 for context in run.cells.shown)
    assert len(found.pictures) == shown and all(picture["alt"] for picture in found.pictures)
    assert html.count('class="span" style="left: 66.00%; width: 32.00%"') == 1 + len(REWARDS) + len(JUDGES)
    for text in ("+0.200", "1.200", "30.0 s, 75 %", "preset", "50% of the gap"):
        assert text in html


def test_a_page_escapes_what_comes_from_outside(run):
    run.evaluation["config"]["model"] = "<script>alert(1)</script>"
    hostile = '"><img src=x onerror=alert(1)>'
    html = page(
        replace(run, cells=replace(run.cells, compounds=tuple(hostile for _ in run.cells.compounds))), title=hostile
    )
    assert "<script>alert" not in html and "<img src=x" not in html


def test_a_page_of_figures_alone(evaluation):
    only_base = evaluation | {"rows": {"base": evaluation["rows"]["base"]}, "paired": {}, "gap": {}, "config": {}}
    html = page(StoredRun(evaluation=only_base))
    assert Page(html).links == ["#figures"] and "<img" not in html
    assert "acceptance" not in html and "Configuration" not in html and "<script" not in html


def test_cells_of_a_base_alone_are_shown(evaluation):
    only_base = evaluation | {"rows": {"base": evaluation["rows"]["base"]}, "paired": {}, "gap": {}}
    html = page(StoredRun(evaluation=only_base, cells=cells(rows=("base",))))
    assert Page(html).pictures and "random" in html and "What got worse" not in html


def test_a_page_is_saved_whole(evaluation, tmp_path):
    stored = StoredRun(evaluation=json.loads(json.dumps(evaluation)))
    save_page(page(stored), tmp_path / "out" / "evaluation.html")
    assert (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_a_page_of_many_contexts_stays_small(evaluation):
    """Values of 256 contexts are drawn, not written out; pictures are of some of them."""
    html = page(StoredRun(evaluation=evaluation, cells=cells(n=256)))
    assert len(Page(html).pictures) <= 4 * (2 * 3 * 3 + 4) and len(html) < 300_000


def test_the_summary_names_both_totals_the_gain_and_the_gap(evaluation):
    text = summary(evaluation, RL)
    assert (
        text == "rl: total reward 1.00 → 1.20, +0.200 over base (+0.100 to +0.300); "
        "65\N{NO-BREAK SPACE}% of the gap to real cells"
    )
    del evaluation["gap"]
    evaluation["paired"]["rl-base"]["total"] = {"mean": 0.2, "ci": [None, None]}
    assert summary(evaluation, RL) == "rl: total reward 1.00 → 1.20, +0.200 over base"


def test_what_got_worse_is_named_with_its_figures(evaluation):
    found = {item.what: item for item in what_got_worse(evaluation, RL)}
    assert {*found} == {"kernel", "diversity in group"}  # the toy's: a distance up, a diversity down
    assert found["diversity in group"].figures == "1.00 → 0.900" and not found["kernel"].sure
    gain = evaluation["paired"]["rl-base"]
    gain["moa"], gain["judge_moa"] = interval(-0.2, -0.3, -0.1), interval(-0.2, -0.3, 0.1)
    (moa,) = [item for item in what_got_worse(evaluation, RL) if "MoA" in item.what]
    assert (moa.what, moa.figures, moa.sure) == ("MoA", "−0.200 (−0.300 to −0.100)", True)


def test_a_reward_of_negative_weight_got_worse_when_it_rose(evaluation):
    assert evaluation["rewards"][0]["name"] == "moa"
    evaluation["rewards"][0]["weight"] = -1.0
    evaluation["paired"]["rl-base"]["judge_moa"] = interval(-0.2, -0.3, -0.1)
    (moa,) = [item for item in what_got_worse(evaluation, RL) if "MoA" in item.what]
    assert (moa.what, moa.figures, moa.sure) == ("MoA", "+0.200 (+0.100 to +0.300)", True)


def test_mechanisms_and_contexts_that_lost_are_counted(evaluation):
    stored = cells()
    for i, name in enumerate(stored.classes):
        lost = name == "DNA damage"
        stored.values["rl"]["total"][i] = [-5.0 - i / 10 if lost else 50.0] * 2
        stored.values["base"]["total"][i] = [0.0, 0.0]
    found = {item.what: item for item in what_got_worse(evaluation, RL, stored)}
    assert found["total of DNA damage"].sure and not any("Eg5" in what for what in found)
    assert found["contexts with a lower total"].figures == "8 of 24, 33\N{NO-BREAK SPACE}%"


def test_nothing_worse_is_said_so(evaluation):
    evaluation["paired"]["rl-base"] |= {"kernel": -0.1, "diversity": 0.1}
    assert what_got_worse(evaluation, RL) == [] and "Nothing: no reward fell" in page(StoredRun(evaluation=evaluation))


def test_colours_follow_the_rows():
    assert tones(["base", "rl", "real", "awm"]) == {"base": "base", "rl": "a", "real": "real", "awm": "b"}
