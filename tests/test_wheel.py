"""The wheel holds all of the packages, their weights too, and nothing else of the checkout."""

import shutil
import subprocess
import sys
import zipfile

import pytest

PACKAGES = ("algorithms", "cellenv", "rewards")
BUILD = "from setuptools.build_meta import build_wheel; build_wheel('dist')"


@pytest.fixture(scope="module")
def checkout(request, tmp_path_factory):
    """A copy, so that building leaves nothing behind, of which each file of weights is empty."""
    copy, root = tmp_path_factory.mktemp("checkout"), request.config.rootpath
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    for name in (*PACKAGES, "examples", "tests"):
        for file in (root / name).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = copy / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch() if file.suffix == ".safetensors" else shutil.copy(file, target)
    return copy


def test_the_wheel_holds_the_packages_with_their_weights_and_no_examples(checkout):
    subprocess.run([sys.executable, "-c", BUILD], cwd=checkout, check=True, capture_output=True)
    (wheel,) = (checkout / "dist").glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(checkout).as_posix()
        for name in PACKAGES
        for path in (checkout / name).rglob("*")
        if path.is_file()
    }
    assert held == files
    assert {"cellenv/assets/embedded/model.safetensors", "rewards/assets/judge.safetensors"} <= held
