import pytest

from algorithms.config_checks import check_at_least


def test_a_setting_below_its_bound_is_named():
    check_at_least(2, contexts=2, group_size=3)
    with pytest.raises(ValueError, match="contexts must be at least 2, got 1"):
        check_at_least(2, group_size=2, contexts=1)
