"""Both versions of Cellpose: where weights are looked for, no downloads, and what is refused."""

import ast
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from rewards.segmentation import CellposeSegmenter, cellpose
from tests.rewards.segmentation.cellpose_toys import MAJOR, inside_cellpose, needs3, save_random

pytestmark = inside_cellpose
ROOT = Path(__file__).parents[3]
SOURCES = [path for package in ("cellenv", "rewards", "algorithms") for path in (ROOT / package).rglob("*.py")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Cellpose's own folder, which does not exist yet; connections fail."""

    def fail(*_, **__):
        raise AssertionError("a download")

    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setattr("socket.socket.connect", fail)
    monkeypatch.setattr("socket.getaddrinfo", fail)
    return tmp_path / "models"


def test_without_cellpose_the_error_says_which_to_install(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cellpose, "version", missing)
    with pytest.raises(ImportError, match=r"need Cellpose .* pip install 'cellpose.*cellpose4.*Python 3\.13"):
        CellposeSegmenter()


@needs3
def test_missing_weights_name_the_places_that_were_searched_and_are_not_downloaded(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"'nuclei'.*{tmp_path}/nuclei and {folder}/nucleitorch_0"):
        CellposeSegmenter()
    with pytest.raises(FileNotFoundError, match=rf"'mine.pt'.*{tmp_path}/mine.pt and {folder}/mine.pt"):
        CellposeSegmenter("mine.pt")
    assert not folder.exists()


@needs3
def test_names_are_found_in_the_folder_of_cellpose(folder):
    folder.mkdir()
    nuclei, cells = save_random(folder / "nucleitorch_0"), save_random(folder / "cyto3", seed=4)
    segmenter = CellposeSegmenter()
    assert [one.model.pretrained_model for one in (segmenter.nuclei, segmenter.cells)] == [str(nuclei), str(cells)]
    assert sorted(file.name for file in folder.iterdir()) == ["cyto3", "nucleitorch_0"]


@needs3
def test_one_file_for_both_passes_is_loaded_once(tmp_path):
    file = save_random(tmp_path / "both")
    segmenter = CellposeSegmenter(file, file)
    assert segmenter.nuclei.model is segmenter.cells.model


@pytest.mark.skipif(MAJOR == 0, reason="needs Cellpose")
@pytest.mark.parametrize(
    ("options", "message"),
    [({"cell_diameter": -1.0}, "diameters of at least 0 px"), ({"batch_size": 0}, "batch size of at least 1 image")],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CellposeSegmenter(**options)


def imports(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_nothing_needs_torchvision_and_cellpose_is_imported_when_used():
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in SOURCES}
    assert "rewards/segmentation/cellpose.py" in trees
    assert [file for file, tree in trees.items() if "torchvision" in imports(ast.walk(tree))] == []
    assert [file for file, tree in trees.items() if "cellpose" in imports(tree.body)] == []
