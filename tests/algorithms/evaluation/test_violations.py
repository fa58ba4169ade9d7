import math
from dataclasses import replace

import numpy as np

from algorithms.evaluation.pages.violations import far_off, limits, violation_shares
from tests.algorithms.evaluation.evaluation_toys import cells

REWARDS = [{"name": "moa", "weight": 5.0}, {"name": "roundness", "weight": -1.0}, {"name": "absent", "weight": 1.0}]


def with_values(**rows: list[float | None]):
    found = cells(n=20)
    values = {row: {name: [[x] for x in each] for name in ("moa", "roundness")} for row, each in rows.items()}
    return replace(found, values=values, measures={}, shown=())


def test_five_percent_of_real_cells_are_far_off_on_the_side_that_costs():
    found = with_values(real=[float(x) for x in range(20)], rl=[-5.0] * 5 + [30.0] * 15)
    limit = limits(found, REWARDS)
    assert limit == {"moa": np.quantile(range(20), 0.05), "roundness": np.quantile(range(20), 0.95)}
    shares = violation_shares(found, REWARDS)
    assert shares["moa"] == {"real": 0.05, "rl": 0.25} and shares["roundness"] == {"real": 0.05, "rl": 0.75}
    assert far_off(0.5, limit["moa"], 5.0) and not far_off(1.0, limit["moa"], 5.0)
    assert far_off(19.0, limit["roundness"], -1.0) and not far_off(18.0, limit["roundness"], -1.0)


def test_undefined_values_are_not_far_off_and_do_not_count():
    found = with_values(real=[0.0, *[1.0] * 19], rl=[None] * 10 + [-1.0] * 5 + [2.0] * 5, base=[None] * 20)
    shares = violation_shares(found, REWARDS)["moa"]
    assert shares["rl"] == 0.5 and math.isnan(shares["base"]) and not far_off(None, 1.0, 1.0)


def test_without_real_cells_there_is_no_limit():
    assert limits(with_values(rl=[0.0] * 20), REWARDS) == {}
    assert limits(with_values(real=[None] * 20), REWARDS) == {}
