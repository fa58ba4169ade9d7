"""The card beside the weights: a head that the Hub reads, what is known, and what is not said to be unknown."""

import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from cellenv.generator import ASSETS, CellFlux, Sampling
from cellenv.model_card import model_card, table_cell
from cellenv.networks import UNetConfig

NETWORK = UNetConfig(size=(5, 48, 32), condition_dim=7)
METADATA = {
    "license": "cc-by-4.0",
    "base": "hf:lab/base",
    "data": "cells of a|b",
    "command": "cellfluxrl train nft --seed 3",
    "version": "1.2",
    "training": {"loss.beta": 0.1, "data.path": "None", "reward.terms": "('a=1|2',)"},
    "rewards": [{"label": "containment", "weight": 2.0}],
    "evaluation": {
        "note": "9 contexts.",
        "columns": ["base", "rl", "rl − base"],
        "lines": [["total", "1.0", "2.0", "+1.0 (+0.5, +1.5)"]],
    },
}


def card(metadata, **sampling):
    return model_card(metadata, network=NETWORK, sampling=Sampling(**sampling), parameters=1234567)


def table(text, head):
    """Cells of the lines below the head of a table."""
    lines = text[text.index(head) :].split("\n\n")[0].splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]


def test_the_head_is_read_by_the_hub():
    head = ModelCard(card(METADATA)).data
    assert (head.license, head.base_model, head.library_name) == ("cc-by-4.0", "lab/base", "cellfluxrl")
    assert head.pipeline_tag == "image-to-image" and "reinforcement-learning" in head.tags
    other = ModelCard(card({"base": "runs/base"})).data
    assert other.license == "unknown" and other.base_model is None and "reinforcement-learning" not in other.tags


def test_what_is_known_is_in_its_place():
    text = card(METADATA, solver="heun", steps=5, guidance=0.2)
    for fact in ("5 x 48 x 32", "7 numbers", "1,234,567", "heun, 5 steps", "20 network evaluations", "CellFluxRL 1.2."):
        assert fact in text
    assert "```bash\ncellfluxrl train nft --seed 3\n```" in text
    assert table(text, "| reward | weight |") == [[" containment ", " 2.0 "]]
    assert table(text, "| setting | value |") == [[" loss.beta ", " 0.1 "], [" reward.terms ", r" ('a=1\|2',) "]]
    assert "9 contexts." in text
    assert table(text, "| | base | rl | rl − base |") == [[" total ", " 1.0 ", " 2.0 ", " +1.0 (+0.5, +1.5) "]]
    assert r"| data | cells of a\|b |" in text and "training exploits" in text


def test_what_is_not_known_is_said_or_left_out():
    text = card({"seed": 3})
    assert "| data | not recorded |" in text and "| licence | not stated" in text
    assert not re.search(r"## (Training|Evaluation)|\| base|None|training exploits|setting", text)


@pytest.mark.parametrize("metadata", [METADATA, {}, {"source": "cellflux.pth"}])
def test_every_card_is_whole(metadata):
    text = card(metadata)
    assert "Not for clinical" in text and "from_pretrained" in text
    assert ("| converted from | cellflux.pth |" in text) == ("source" in metadata)
    assert "\n\n\n" not in text and text.endswith(".\n") and "{" not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):  # all lines of a table have equally many cells
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.parametrize("metadata", [{"rewards": 3}, {"rewards": ["moa"]}, {"evaluation": {"note": "x"}}, {"base": 3}])
def test_metadata_of_another_form_are_refused_before_anything_is_written(metadata, tmp_path):
    with pytest.raises(ValueError, match=r"metadata make no model card: .*cellenv\.model_card"):
        CellFlux.from_pretrained("embedded").save_pretrained(tmp_path / "model", metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_of_a_table_stays_one():
    assert table_cell("a | b\nc") == r"a \| b c"


def test_the_python_of_the_card_runs(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", card(METADATA), re.DOTALL)
    calls = {}

    class Generator:
        def sample(self, x0, condition, seed):
            calls["sample"] = x0, condition, seed
            return x0, x0

    monkeypatch.setattr(CellFlux, "from_pretrained", lambda folder: calls.update(folder=folder) or Generator())
    exec(block, {"x0": 1, "condition": 2, "seed": 3})
    assert calls == {"folder": "FOLDER", "sample": (1, 2, 3)}


def test_the_shipped_generator_has_its_card():
    generator = CellFlux.from_pretrained("embedded")
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    text = model_card(generator.metadata, network=generator.config, sampling=generator.sampling, parameters=parameters)
    assert (ASSETS / "embedded" / "README.md").read_text() == text and 'license: "apache-2.0"' in text


def test_the_card_needs_no_hub():
    code = "import sys; sys.modules['huggingface_hub'] = None; import cellenv.model_card"
    subprocess.run([sys.executable, "-c", code], check=True)
