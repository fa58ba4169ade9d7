import pytest

from algorithms.command_line import parse
from algorithms.evaluation.best_of_n import PRESETS, BestOfNConfig, estimate, main


@pytest.mark.parametrize("tables", [(1, 32), (0, 4), ()])
def test_tables_must_lie_among_the_draws(tables):
    with pytest.raises(ValueError, match="need tables between 1 and most = 16"):
        BestOfNConfig(tables=tables)


def test_flags_reach_the_config():
    args = ["--preset", "smoke", "--model", "rl=a", "--model", "b=c", "--scorer", "moa", "--contexts", "7"]
    config = parse(PRESETS, None, args).config
    assert (config.model, config.scorer, config.eval.contexts, config.most) == (("rl=a", "b=c"), "moa", 7, 4)


def test_two_models_need_two_names():
    with pytest.raises(ValueError, match="need another NAME for each NAME=DIR"):
        main(BestOfNConfig(model=("a", "b")))


def test_estimate_counts_every_draw_of_every_model(save_base, monkeypatch):
    monkeypatch.setattr("algorithms.estimate.seconds_of", lambda work: 1.0)
    base = str(save_base())
    config = parse(PRESETS, None, ["--preset", "smoke", "--base", base, "--model", base, "--contexts", "3"]).config
    assert estimate(config).nfe == 2 * 3 * 4 * 2  # models, contexts, draws, steps
