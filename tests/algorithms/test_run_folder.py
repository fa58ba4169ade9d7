"""A run's folder: one process at a time, other runs set aside, unfinished files swept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from algorithms import checkpoint
from algorithms.launch import start_accelerator
from algorithms.run_folder import HOLDER, LOCK, TEMPORARY, run_folder, set_aside
from cellenv.weights_io import atomic_replace

HOLD = """
import sys, time
from pathlib import Path
from algorithms.run_folder import claim
lock = claim(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder, and leaves a file half written."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / f".000007.pt.{process.pid}").write_bytes(b"half")
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_a_dead_one_is_followed_with_a_word(tmp_path, holder, capsys):
    start_accelerator(threads=1)
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=f"in use by process {holder.pid} on .*give another --output-dir"):
        with run_folder(folder, resume=True):
            pass
    assert len(list((folder / "checkpoints").iterdir())) == 1
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run_folder(folder, resume=True):
        assert f"was in use by process {holder.pid}" in capsys.readouterr().out
        assert list((folder / "checkpoints").iterdir()) == []
    with run_folder(folder, resume=True):
        assert capsys.readouterr().out == ""  # the one before ended as it should


def test_unfinished_files_of_runs_below_the_folder_stay(tmp_path):
    start_accelerator(threads=1)
    names = (".log.jsonl.7", "samples/.000010.png.7", "generator-000008/.config.json.7", "nft/.log.jsonl.7")
    for file in [tmp_path / name for name in (*names, "nft/checkpoints/.000007.pt.7")]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    with run_folder(tmp_path, resume=True):
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(".*.7")}
    assert left == {"nft/.log.jsonl.7", "nft/checkpoints/.000007.pt.7"}


def test_an_unfinished_file_is_known_by_its_name(tmp_path):
    with atomic_replace(tmp_path / "log.jsonl") as temporary:
        assert TEMPORARY.fullmatch(temporary.name)


@pytest.mark.parametrize("kind", checkpoint.FOLDERS)
def test_another_run_is_set_aside_unless_it_is_resumed(tmp_path, kind, capsys):
    start_accelerator(threads=1)
    folder = tmp_path / "run"
    with run_folder(folder, resume=False):
        checkpoint.save(folder / kind, 3, {})
    with run_folder(folder, resume=True):
        assert checkpoint.list_checkpoints(folder / kind)
    assert capsys.readouterr().out == ""
    with run_folder(folder, resume=False):
        assert sorted(path.name for path in folder.iterdir()) == [LOCK, HOLDER]
        assert checkpoint.list_checkpoints(tmp_path / "run.1" / kind)
    assert f"held another run; it is in {tmp_path / 'run.1'} now" in capsys.readouterr().out


def test_a_run_in_the_working_folder_is_not_moved_away_under_the_process(tmp_path, monkeypatch):
    start_accelerator(threads=1)
    checkpoint.save(tmp_path / checkpoint.FOLDERS[0], 3, {})
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the first try gives the folder up again
        with pytest.raises(ValueError, match=r"\. holds another run and is the working folder: give another"):
            with run_folder(Path("."), resume=False):
                pass
    with run_folder(Path("."), resume=True):
        assert checkpoint.list_checkpoints(Path(checkpoint.FOLDERS[0]))


def test_a_folder_is_set_aside_under_the_first_free_name(tmp_path):
    for name in ("run", "run.1"):
        (tmp_path / name).mkdir()
    assert set_aside(tmp_path / "run") == tmp_path / "run.2" and not (tmp_path / "run").exists()
