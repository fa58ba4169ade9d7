"""Several processes share what loops over images, and find the figures of one, bit for bit."""

import json
import weakref

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from algorithms.processes import from_main, map_batches, part_of, run_and_leave
from tests.algorithms.processes_toys import DISCS
from tests.algorithms.torchrun import torchrun
from tests.folder_toys import write_folder


def test_one_process_maps_all_batches_in_order():
    batches = torch.arange(7).split(3)
    assert map_batches(lambda batch: batch.tolist(), batches, "count") == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_every_item_is_in_one_part(n, parts):
    """With fewer items than parts too, where a library's split repeats the last one."""
    found = [part_of(n, part, parts).tolist() for part in range(parts)]
    assert [item for part in found for item in part] == list(range(n))
    assert len(found[0]) == max(map(len, found)) <= min(map(len, found)) + 1  # the main process has one, if any


def test_one_process_keeps_its_result_and_raises_its_error():
    assert from_main(lambda: {"a": 1}, "read") == {"a": 1}
    with pytest.raises(FileNotFoundError, match="nothing here"):
        from_main(lambda: (_ for _ in ()).throw(FileNotFoundError("nothing here")), "read")


def test_the_group_is_left_when_nothing_of_a_stopped_command_is_left(monkeypatch):
    """As of a training that a signal ended, whose DDP would otherwise outlive the group."""
    held, left = [], []

    def command():
        model = torch.nn.Linear(1, 1)
        held.append(weakref.ref(model))
        raise SystemExit(143)

    monkeypatch.setattr(PartialState, "destroy_process_group", lambda self: left.append(held[0]()))
    with pytest.raises(SystemExit) as stopped:
        run_and_leave(command)
    assert stopped.value.code == 143 and left == [None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By number of processes: the results of every rank, and the folder."""
    folder = tmp_path_factory.mktemp("processes")
    rows = torch.cat([DISCS.treated[:6], DISCS.controls[:4]])
    (folder / "cells").mkdir()
    write_folder(folder / "cells", DISCS, rows, DISCS.images(rows))
    found = {}
    for processes in (1, 2):
        (folder / f"{processes}").mkdir()
        done = torchrun(processes, "tests.algorithms.processes_toys", folder / f"{processes}")
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = [json.loads((folder / f"{processes}/rank-{rank}.json").read_text()) for rank in range(processes)]
        found[processes] = ranks, folder / f"{processes}"
    return found


@pytest.mark.slow
def test_every_process_gets_the_figures_of_one(runs):
    (one,), two = runs[1][0], runs[2][0]
    assert [one["ranks"], *(rank["ranks"] for rank in two)] == [1, 2, 2]
    for rank in two:
        for name in ("evaluate", "best_of_n", "periodic", "distances"):
            assert rank[name] == one[name], name


@pytest.mark.slow
def test_a_classifier_takes_the_step_of_one_process(runs):
    """Of three images one process has two and the other one; of one image one has none."""
    (one,), two = runs[1][0], runs[2][0]
    assert two[0]["classifier_step"] == two[1]["classifier_step"]
    for shared, alone in zip(two[0]["classifier_step"], one["classifier_step"], strict=True):
        assert shared == pytest.approx(alone, rel=1e-4)


@pytest.mark.slow
def test_the_work_is_shared_and_no_image_travels(runs):
    (one,), (first, second) = runs[1][0], runs[2][0]
    assert first["scored"] > 0 and second["scored"] > 0
    assert first["scored"] + second["scored"] == one["scored"]
    assert max(first["dimensions"] + second["dimensions"]) < 4  # an image would be (batch, channel, height, width)


@pytest.mark.slow
def test_both_leave_the_same_files(runs):
    one, two = (folder for _, folder in (runs[1], runs[2]))
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*.*")} for folder in (one, two)]
    assert files[1] - files[0] == {"rank-1.json"} and files[0] < files[1]
    assert len(list((two / "images").iterdir())) == 4 * 2 + 1
    differ = {name for name in files[0] if (one / name).read_bytes() != (two / name).read_bytes()}
    rounded = {"classifier/classifier.json", "classifier/classifier.safetensors"}  # sums of gradients
    assert differ - rounded == {"evaluate/evaluation.html", "rank-0.json"}  # times; number of processes
    trained = [load_file(folder / "classifier/classifier.safetensors") for folder in (one, two)]
    for name, value in trained[0].items():
        error = (trained[1][name] - value).abs()
        assert error.mean() < 1e-7 and error.max() < 1e-3, name
        far = error > 1e-4 + 1e-3 * value.abs()
        assert far.sum() <= 1, name  # where a gradient is 0 but for rounding, AdamW takes a step all the same
