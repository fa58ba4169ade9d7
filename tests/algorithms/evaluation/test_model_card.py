from pathlib import Path

import pytest

from algorithms.config import DataConfig, TrainingRewardConfig
from algorithms.evaluation.model_card import describe_evaluation, describe_training
from algorithms.recipes.nft import NFTConfig
from rewards import SUITE, WEIGHTS
from tests.algorithms.evaluation.evaluation_toys import evaluation, interval


def test_the_table_has_the_means_of_all_rows_and_the_interval_of_a_difference():
    found = evaluation()
    found["rows"]["rl"]["containment"] = interval(0.25, 0.1, 0.4)
    found["paired"]["rl-base"]["containment"] = interval(-0.75, -0.9, -0.6)
    about = describe_evaluation(found)
    assert about["columns"] == ["base", "rl", "real", "rl − base"] and about["note"].startswith("32 held-out contexts")
    lines = {label: cells for label, *cells in about["lines"]}
    assert lines["containment"] == ["1.000", "0.250", "1.300", "−0.750 (−0.900, −0.600)"]
    assert lines["Fréchet"] == ["4.00", "3.50", "4.00", "−0.500"]  # no interval
    assert {len(line) for line in about["lines"]} == {5}


FOLDER = NFTConfig(
    data=DataConfig(path=Path("cells"), unlabelled=True), reward=TrainingRewardConfig(reference=Path("r.json"))
)


@pytest.mark.parametrize(
    ("config", "base", "licence"),
    [
        (NFTConfig(), "apache-2.0", "apache-2.0"),
        (NFTConfig(), None, None),
        (FOLDER, "apache-2.0", None),
        (FOLDER, None, None),
    ],
)
def test_a_licence_is_that_of_base_and_cells_or_none(config, base, licence):
    about = describe_training(config, {"license": base} if base else {}, SUITE, {"seed": 0})
    assert about.get("license") == licence
    assert about["base"] == "embedded" and about["training"] == {"seed": 0}
    assert {reward["name"]: reward["weight"] for reward in about["rewards"]} == WEIGHTS
