import json
import subprocess
import sys

import pytest

from algorithms.files import write_whole
from algorithms.user_errors import user_errors
from cellenv.generator import resolve_folder


def caught(capsys, function, *args):
    with pytest.raises(SystemExit, match="2"), user_errors("cellfluxrl score"):
        function(*args)
    return capsys.readouterr().err


def test_our_error_about_an_input_is_one_sentence(tmp_path, capsys):
    missing = tmp_path / "no-generator"
    error = caught(capsys, resolve_folder, missing)
    assert error.startswith(f"cellfluxrl score: no generator at {missing}") and error.count("\n") == 1


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path, capsys):
    (file := tmp_path / "file").touch()
    assert str(tmp_path) in caught(capsys, tmp_path.open)
    assert str(file) in caught(capsys, write_whole, file / "evaluation.json", b"")


@pytest.mark.parametrize("fault", [lambda: json.loads("{"), lambda: int("three"), lambda: {}["key"]])
def test_a_fault_keeps_its_traceback(fault):
    with pytest.raises((ValueError, KeyError)), user_errors("cellfluxrl score"):
        fault()


def test_an_error_of_a_users_function_keeps_its_traceback():
    with pytest.raises(ValueError, match="of a reward"), user_errors("cellfluxrl train nft"):
        raise ValueError("of a reward")  # this module is none of the packages


def test_a_command_prints_the_sentence_and_no_traceback(tmp_path):
    words = [sys.executable, "-m", "algorithms.cli", "score", str(tmp_path / "none"), "--output-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("cellfluxrl score: there is no folder") and "Traceback" not in done.stderr
