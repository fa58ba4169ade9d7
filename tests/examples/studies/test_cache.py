"""Finished results are read again only under the settings that they were made with."""

from dataclasses import dataclass, replace

import pytest

from algorithms.config import DataConfig
from examples.studies.cache import config_signature, load_cached, save_cached


@dataclass(frozen=True)
class Config:
    steps: int = 3
    folder: str = "here"
    data: DataConfig = DataConfig()


def test_content_returns_under_equal_settings_and_is_refused_under_others(tmp_path):
    file, settings = tmp_path / "deep" / "run.json", {"beta": "0.1", "seed": "1"}
    assert load_cached(file, settings) is None
    save_cached(file, settings, {"total": [1.0, None]})
    assert load_cached(file, dict(reversed(settings.items()))) == {"total": [1.0, None]}
    for changed, what in (
        (settings | {"beta": "0.5"}, "beta=0.1, now 0.5"),
        ({"beta": "0.1"}, "seed=1, now None"),
        (settings | {"group": "4"}, "group=None, now 4"),
    ):
        with pytest.raises(ValueError, match=f"was made with {what}; give another --output-dir"):
            load_cached(file, changed)


def test_a_signature_has_every_field_but_the_resumable_ones():
    signature = config_signature(Config(), ("folder", "data.cache"))
    assert signature["steps"] == "3" and signature["data.layout"] == "bbbc021"
    assert "folder" not in signature and "data.cache" not in signature
    free = replace(Config(), folder="there")
    assert config_signature(free, ("folder", "data.cache")) == signature
    assert config_signature(replace(Config(), steps=4), ("folder", "data.cache")) != signature
