"""The short evaluation says what the long one says."""

import pytest
import torch
from comparison_toys import generator, rulers


@pytest.fixture
def script(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import exam

    return exam


@pytest.fixture
def model(data):
    return generator(data, 0.1)


def test_an_exam_is_one_draw_of_the_evaluation(script, data, model, tmp_path):
    from evaluate import evaluate_run

    own = rulers(len(data.moas))
    exam = script.Exam.of(data, own, contexts=14)
    long = evaluate_run({"base": model}, data, tmp_path, rulers=own, contexts=14, group_size=1)["rows"]
    for row, marks in (("base", exam(model)), ("real", exam.mark(exam.real))):
        figures = marks.figures()
        assert figures["frechet"] == pytest.approx(long[row]["frechet"])
        for name in ("total", "containment", "judge_moa", "judge_containment"):
            assert figures[name] == pytest.approx(long[row][name]["mean"], abs=2e-5)


def test_noise_is_the_same_every_time_and_what_is_undefined_is_none(script, data, model):
    own = rulers(len(data.moas))
    exam = script.Exam.of(data, own, contexts=5)
    assert exam(model) == exam(model)
    images = exam.real.clone()
    images[2] = torch.nan
    values = exam.rulers.score(images, exam.scene)["total"].squeeze(1)
    assert [script._known(x) for x in values.tolist()].index(None) == 2
