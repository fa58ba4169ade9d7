"""The wheel holds the packages with their weights; the sdist builds the same one; both have the version of the tag.

The wheel's commands run where there is nothing but the wheel.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch

from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from tests.folder_toys import write_folder

PACKAGES = ("algorithms", "cellenv", "rewards")
BUILD = "from setuptools.build_meta import build_{kind}; build_{kind}('dist')"
# One process for all commands: heavy modules are imported and compiled once.
RUN = """
import json, sys
from importlib.metadata import entry_points

(command,) = entry_points(group="console_scripts", name="cellfluxrl")
main = command.load()
for args in json.load(sys.stdin):
    main(args)
ours = {"algorithms", "cellenv", "rewards"}
files = {name: module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] in ours}
json.dump(files, open("modules.json", "w"))
"""
SHARPNESS = """
def sharpness(images):
    return images.diff(dim=-1).abs().mean((1, 2, 3))
"""


@pytest.fixture(scope="module")
def checkout(request, tmp_path_factory):
    """A copy with one commit and its tag, so that building leaves nothing behind."""
    copy, root = tmp_path_factory.mktemp("checkout"), request.config.rootpath
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(root / name, copy)
    for name in (*PACKAGES, "examples", "tests"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(copy, "init", "--quiet")
    git(copy, "add", ".")
    git(copy, "commit", "--quiet", "--message", "all")
    git(copy, "tag", "v7.8.9")
    return copy


def git(folder, *words):
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, *words], cwd=folder, check=True)


def build(kind, folder):
    """The file that a folder builds, a wheel or an sdist."""
    command = [sys.executable, "-c", BUILD.format(kind=kind)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (made,) = (folder / "dist").glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[kind])
    return made


@pytest.fixture(scope="module")
def wheel(checkout):
    return build("wheel", checkout)


def contents(wheel):
    """Bytes by name."""
    with zipfile.ZipFile(wheel) as held:
        return {name: held.read(name) for name in held.namelist()}


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """The current folder: a reward, a tiny generator and a folder of cells, but no code of the checkout."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "mine.py").write_text(SHARPNESS)
    config = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)
    CellFlux(UNet(config), config, Sampling(steps=2)).save_pretrained(folder / "tiny")
    data = SyntheticCells("test")
    rows = torch.cat([data.treated[:240:60], data.controls[:4]])
    write_folder(folder / "cells", data, rows, data.images(rows))
    monkeypatch.chdir(folder)
    return folder


def test_the_wheel_holds_the_packages_with_their_weights_and_no_examples(checkout, wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(checkout).as_posix()
        for name in PACKAGES
        for path in (checkout / name).rglob("*")
        if path.is_file()
    }
    assert held == files
    assert {"cellenv/assets/embedded/model.safetensors", "rewards/assets/judge.safetensors"} <= held


def test_the_sdist_builds_the_same_wheel(checkout, wheel, tmp_path):
    pytest.importorskip("setuptools_scm")
    with tarfile.open(build("sdist", checkout)) as held:
        held.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / "cellfluxrl-7.8.9")  # without git
    assert again.name == wheel.name == "cellfluxrl-7.8.9-py3-none-any.whl"
    assert contents(again) == contents(wheel)


def test_a_copy_without_git_has_a_version_too(request, tmp_path):
    pytest.importorskip("setuptools_scm")
    shutil.copy(request.config.rootpath / "pyproject.toml", tmp_path)
    run = subprocess.run([sys.executable, "-m", "setuptools_scm"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip() == "0.1.dev0", run.stderr


@pytest.mark.slow
def test_its_commands_run_in_an_empty_folder(wheel, empty, tmp_path):
    """Without site's `.pth` files (-S), so that an editable installation does not lend its modules."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    sharp, once = ["--reward", "sharpness=mine.py:sharpness:0.5"], ["--iterations", "1", "--threads", "1"]
    smoke, few = ["--preset", "smoke", "--generator", "tiny", "--mixed-precision", "no"], ["--contexts", "4"]
    compare = ["--preset", "smoke", "--base", "tiny", "--model", "rl=runs/sharp/model", *few]
    commands = [
        ["train", "nft", *smoke, *once, *few],
        ["train", "nft", *smoke, *once, *few, *sharp, "--output-dir", "runs/sharp"],
        ["evaluate", *compare, *sharp, "--output-dir", "runs/again"],
        ["best-of-n", *compare, "--most", "2", "--tables", "1", "2", "--output-dir", "runs/best"],
        ["report", "runs/sharp", "runs/again", "--output", "runs/report.html"],
        ["generate", "--preset", "smoke", "--generator", "runs/sharp/model", *few, "--output-dir", "runs/images"],
        ["score", "cells", *sharp, "--output-dir", "runs/scores"],
    ]
    path = os.pathsep.join([str(tmp_path / "site"), *(entry for entry in sys.path if "-packages" in entry)])
    run = subprocess.run(
        [sys.executable, "-S", "-c", RUN],
        input=json.dumps(commands),
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    modules = json.loads((empty / "modules.json").read_text())
    assert "algorithms.recipes.nft" in modules
    assert {name for name, file in modules.items() if not file.startswith(str(tmp_path / "site"))} == set()
    runs = empty / "runs"
    names = ("nft-smoke", "sharp", "again")
    default, trained, again = (json.loads((runs / name / "evaluation.json").read_text())["rows"] for name in names)
    assert trained["real"]["sharpness"]["mean"] > 0 and "sharpness" not in default["real"]
    assert trained["rl"] == again["rl"]
    assert (runs / "report.html").read_text().count("acceptance checks") == 2
    assert (runs / "best" / "best_of_n.png").is_file() and len([*(runs / "images").glob("*.npy")]) == 8
    header, *lines = (runs / "scores" / "measures.csv").read_text().splitlines()
    assert len(lines) == 8 and header.endswith("reward_sharpness")
