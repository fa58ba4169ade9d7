"""The grids of the studies: each candidate is a run of its own, and all fit the budget of time."""

from pathlib import Path

from algorithms.recipes.nft import NFTConfig
from examples.studies.candidates import candidate_config
from examples.studies.comparison_config import BUDGET, ComparisonConfig
from examples.studies.grids import SINGLE, START, STUDIES, vary
from examples.studies.searches import SEARCHES
from rewards import SUITE, configure

CONFIG = ComparisonConfig(output_dir=Path("out"))
GRIDS = [grid for study in STUDIES.values() for grid in (study.reduced, study.full)]


def test_studies_start_from_the_setting_that_the_comparison_chose():
    assert START == SEARCHES["nft"]["default"]


def test_every_candidate_is_a_config_of_its_own():
    for grid in GRIDS:
        configs = {str(candidate_config(CONFIG, c, 0, Path("out"))) for c in grid.candidates}
        assert len(configs) == len({c.name for c in grid.candidates}) == len(grid.candidates)
        assert not any("/" in c.name or " " in c.name for c in grid.candidates)


def test_a_reduced_grid_takes_less_than_an_hour_and_the_full_one_is_larger():
    for study in STUDIES.values():
        assert study.reduced.runs * 3.5 < 60 and study.reduced.budget <= BUDGET < study.full.budget  # minutes a run
        assert study.full.runs > study.reduced.runs


def test_single_rewards_leave_out_all_others_and_weigh_1():
    names = [spec.name for spec in SUITE]
    assert [c.name for c in SINGLE] == [*names, "combination"]
    for candidate in SINGLE[:-1]:
        config = candidate_config(CONFIG, candidate, 0, Path("out"))
        assert [(spec.name, spec.weight) for spec in configure(config.reward.terms)] == [(candidate.name, 1.0)]
    assert candidate_config(CONFIG, SINGLE[-1], 0, Path("out")).reward == NFTConfig().reward


def test_candidates_are_named_after_their_values():
    both = vary({"loss.kl_weight": (1, 2), "renoise.times": ("uniform",)})
    assert [c.name for c in both] == ["kl_weight=1,times=uniform", "kl_weight=2,times=uniform"]
    assert both[1].options == {**START, "loss.kl_weight": 2, "renoise.times": "uniform"}
    decay = STUDIES["beta"].reduced.candidates
    assert [c.name for c in decay[:2]] == ["beta=0.1,decay=published", "beta=0.1,decay=default"]
    assert decay[0].options == {"loss.beta": 0.1, "rollout.decay_slope": 0.001, "rollout.decay_most": 0.5}
