from algorithms.recipes import iteration_cost, post_training
from algorithms.recipes.commands import commands


def test_main_trains_and_estimate_measures_what_build_makes(monkeypatch):
    calls = []
    monkeypatch.setattr(post_training, "post_train", lambda *given: calls.append(("train", *given)))
    monkeypatch.setattr(iteration_cost, "estimate_post_training", lambda *given: ("estimate", *given))
    main, estimate = commands("build")
    main("config")
    assert calls == [("train", "config", "build")]
    assert estimate("config") == ("estimate", "config", "build")
