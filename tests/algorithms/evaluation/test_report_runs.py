import json

import pytest

from algorithms.cli import main as cellfluxrl
from algorithms.evaluation.pages.report_runs import ReportConfig, main
from algorithms.evaluation.stored_run import save_evaluation
from tests.algorithms.evaluation.evaluation_toys import cells, evaluation, interval, log


def save_run(folder, total: float = 1.2, name: str = "evaluation"):
    found = evaluation()
    found["rows"]["rl"]["total"] = interval(total, total - 0.1, total + 0.1)
    save_evaluation(found, folder / f"{name}.json")
    cells().save(folder / f"{name}_cells.json")
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log()))
    return folder


def test_runs_are_compared_on_one_page(tmp_path, capsys):
    runs = tuple(save_run(tmp_path / name, total) for name, total in (("nft", 1.234), ("grpo", 1.456)))
    main(ReportConfig(runs=runs, output=tmp_path / "new" / "report.html"))
    html = (tmp_path / "new" / "report.html").read_text()
    assert "<title>nft and grpo</title>" in html and "1.234" in html and "1.456" in html
    assert all(f'alt="{row}, compound-' in html for row in ("control", "base", "nft", "grpo", "real"))
    assert "wrote" in capsys.readouterr().out


def test_one_run_keeps_its_rows(tmp_path):
    main(ReportConfig(runs=(save_run(tmp_path / "nft", name="evaluation_unseen"),), unseen=True, output=tmp_path / "x"))
    html = (tmp_path / "x").read_text()
    assert "<title>nft</title>" in html and 'alt="rl, compound-' in html and 'id="training"' in html


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "need the folder of a run"), (["empty"], "empty holds no evaluation"), (["gone"], "no folder gone")],
)
def test_a_wrong_folder_is_one_sentence_and_exit_code_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="2"):
        cellfluxrl(["report", *words])
    error = capsys.readouterr().err
    assert message in error and error.startswith("cellfluxrl report: ") and "Traceback" not in error
    assert not (tmp_path / "runs").exists()
