"""--help is quick: it comes before the heavy imports."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if '__name__ == "__main__"' in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_torch(script):
    command = [sys.executable, "-X", "importtime", str(EXAMPLES / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "usage:" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tyro" in imported and "torch" not in imported


def test_all_scripts_are_found():
    assert {"best_of_n", "evaluate", "fit_reference", "score_images", "train_base", "train_nft"} <= set(SCRIPTS)
