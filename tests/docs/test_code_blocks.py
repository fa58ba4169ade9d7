"""Every Python block of docs/ runs as it stands, with stand-ins for what a reader has to bring."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium
import pytest
import torch

import cellenv.gym
import rewards.segmentation
from cellenv import CellFlux, ImagingCells, SyntheticCells, hub
from cellenv.gym import Scale
from cellenv.networks import UNet
from rewards.segmentation import EmbeddedSegmenter
from tests.cellenv.toy_bandit import toy_generator, toy_suite, toy_world
from tests.cellenv.toy_cells import ToyCells
from tests.conftest import TINY
from tests.folder_toys import write_folder

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = {page.name: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in DOCS.glob("*.md")}
TESTED = {"benchmark.md", "cellpose.md", "quickstart.md", "real_data.md"}


def run(page: str, **scope: Any) -> dict[str, Any]:
    """Run the blocks of a page in turn, in one scope, which is returned."""
    for number, block in enumerate(BLOCKS[page]):
        exec(compile(block, f"docs/{page}, block {number}", "exec"), scope)
    return scope


def test_every_page_with_python_is_tested():
    assert {page for page, blocks in BLOCKS.items() if blocks} == TESTED


def test_quickstart():
    scope = run("quickstart.md")
    assert scope["images"].shape == (2, 3, 96, 96) and scope["reward"].shape == (2, 1)
    assert scope["reward"].isfinite().all()


def test_benchmark(monkeypatch):
    """The first block draws with the embedded generator; the world that is scored is a toy."""

    def fit(task, contexts):
        return Scale.fit(task, contexts)

    monkeypatch.setattr(cellenv.gym, "World", lambda *given, **named: toy_world())
    monkeypatch.setattr(Scale, "load", fit)
    gymnasium.registry.pop("mine/Trust-v0", None)
    scope = run("benchmark.md", generator=toy_generator(), data=ToyCells(), suite=toy_suite())
    assert scope["terminated"] and scope["picture"].ndim == 3 and scope["envs"].num_envs == 64
    assert abs(scope["result"].score) < 0.2  # the first of exchangeable candidates
    assert len(scope["result"].rewards) == len(scope["scale"].untouched)
    gymnasium.registry.pop("mine/Trust-v0")


def test_cellpose(monkeypatch):
    """Cellpose has no weights here; another segmenter stands in."""
    monkeypatch.setattr(rewards.segmentation, "CellposeSegmenter", EmbeddedSegmenter.from_pretrained)
    suite = run("cellpose.md", classifier=None, reference=None)["rewards"]
    assert len(suite) > 7


def test_real_data(tmp_path, monkeypatch):
    pytest.importorskip("rdkit")
    data = SyntheticCells("test")
    rows = torch.cat([data.treated.nonzero()[:4, 0], (~data.treated).nonzero()[:4, 0]])
    write_folder(tmp_path, data, rows, data.images(rows), train=8)
    CellFlux(UNet(TINY), TINY).save_pretrained(tmp_path / "runs" / "cellflux")
    uploads: list[str] = []
    monkeypatch.setattr(hub, "upload", lambda folder, repo_id, private: uploads.append(repo_id))
    monkeypatch.chdir(tmp_path)

    class Cells(ImagingCells):
        add_compound = Mock()  # those of the folder are described by another fingerprint

    monkeypatch.setattr("cellenv.data.imaging.ImagingCells", Cells)
    scope = run("real_data.md", DATA=tmp_path, CACHE=tmp_path / "cache")
    assert len(scope["cells"].treated) == 8 and scope["generator"].sampling.nfe == 200
    name, fingerprint = Cells.add_compound.call_args.args
    assert name == "aspirin" and len(fingerprint) == 1024 and uploads == ["lab/cellflux"]
