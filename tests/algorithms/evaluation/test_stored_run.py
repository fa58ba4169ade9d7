import json

import pytest

from algorithms.evaluation.stored_run import StoredRun, save_evaluation, trained_rows
from tests.algorithms.evaluation.evaluation_toys import best_of_n, cells, evaluation, log


@pytest.fixture
def folder(tmp_path):
    save_evaluation(evaluation(), tmp_path / "evaluation.json")
    return tmp_path


def test_an_evaluation_alone_is_a_run(folder):
    run = StoredRun.read(folder)
    assert run.evaluation == evaluation()
    assert (run.cells, run.logs, run.best_of_n) == (None, {}, None)


def test_what_lies_beside_it_is_read(folder):
    cells().save(folder / "evaluation_cells.json")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log()) + '{"iteration": 12, "rew')
    (folder / "best_of_n.json").write_text(json.dumps(best_of_n()))
    run = StoredRun.read(folder)
    assert run.cells == cells() and run.logs == {"rl": log()}
    assert run.best_of_n.curve.n == [1, 2, 4] and run.best_of_n.curve.rows["rl"][1]["total"].mean == 2


def test_a_selection_on_other_compounds_is_left_out(folder):
    other = best_of_n()
    other["best_of"]["1"]["config"]["unseen"] = True
    (folder / "best_of_n.json").write_text(json.dumps(other))
    assert StoredRun.read(folder).best_of_n is None


@pytest.mark.parametrize(
    ("weights", "shown"),
    [
        ({"base": "0a", "rl": "1b"}, ["base", "rl"]),
        ({"base": "0a", "rl": "2c"}, ["base"]),  # it was trained further
        ({"base": "3d", "rl": "1b"}, []),
        ({"base": "0a", "nft": "1b"}, ["base", "rl"]),  # called otherwise
        ({"base": "0a", "nft": "2c"}, ["base"]),
        ({"base": "0a", "rl": "2c", "before": "1b"}, ["base"]),  # the name is another model's now
        ({}, ["base", "rl"]),  # of an older version
    ],
)
def test_only_the_curves_of_the_evaluated_weights_are_kept(folder, weights, shown):
    (folder / "best_of_n.json").write_text(json.dumps(best_of_n()))
    run = StoredRun.of_rows(folder / "evaluation", evaluation() | {"weights": weights}, None, {})
    curve = run.best_of_n and run.best_of_n.curve
    assert (list(curve.rows) if curve else []) == shown
    assert curve is None or list(curve.paired) == [f"{row}-base" for row in shown if row != "base"]


def test_a_selection_without_fingerprints_is_shown(folder):
    (folder / "best_of_n.json").write_text(json.dumps({k: v for k, v in best_of_n().items() if k != "weights"}))
    assert list(StoredRun.read(folder).best_of_n.curve.rows) == ["base", "rl"]


def test_logs_and_selection_of_a_row_are_in_the_folder_of_its_training(folder, tmp_path):
    training = tmp_path / "runs" / "nft"
    training.mkdir(parents=True)
    (training / "log.jsonl").write_text(json.dumps(log()[0]) + "\n")
    (training / "best_of_n.json").write_text(json.dumps(best_of_n()))
    runs = {"rl": training, "other": tmp_path / "absent"}
    run = StoredRun.of_rows(folder / "evaluation", evaluation(), None, runs)
    assert run.logs == {"rl": log()[:1]} and run.best_of_n is not None


def test_a_damaged_selection_does_not_cost_a_new_evaluation_its_page(folder, tmp_path, caplog):
    for place, content in ((folder, {"curve": {}}), (tmp_path / "other", best_of_n())):
        place.mkdir(exist_ok=True)
        (place / "best_of_n.json").write_text(json.dumps(content))
    run = StoredRun.of_rows(folder / "evaluation", evaluation(), None, {})
    assert run.best_of_n is None and "left out of the page" in caplog.text and "best_of_n.json" in caplog.text
    run = StoredRun.of_rows(folder / "evaluation", evaluation(), None, {"rl": tmp_path / "other"})
    assert list(run.best_of_n.curve.rows) == ["base", "rl"]


def test_a_folder_without_an_evaluation_says_what_writes_one(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"holds no evaluation: need .*evaluation_unseen\.json.*cellfluxrl eval"
    ):
        StoredRun.read(tmp_path, "evaluation_unseen")
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent: give the folder of a run"):
        StoredRun.read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation.json", '{"rows": {'),
        ("evaluation.json", '{"rows": {}, "paired": {}, "rewards": [], "config": {}}'),
        ("evaluation.json", '{"rows": {"rl": {}}, "paired": {}, "rewards": [], "config": {}}'),
        ("evaluation_cells.json", "[]"),
        ("best_of_n.json", '{"curve": {"n": [1], "rows": {"rl": []}, "paired": {}}, "best_of": {}}'),
    ],
)
def test_a_damaged_file_is_named(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        StoredRun.read(folder)


def test_trained_rows_are_neither_base_nor_real_nor_given():
    found = evaluation()
    found["rows"] |= {"base-8": {}, "theirs": {}, "awm": {}}
    found["config"] |= {"images": ["theirs"], "base by other samplers": ["base-8"]}
    assert trained_rows(found) == ["rl", "awm"]
