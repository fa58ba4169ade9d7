from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.command_line import expand_flags, parse


@dataclass(frozen=True, kw_only=True)
class Optim:
    learning_rate: float = 0.1
    steps: int = 5
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True)
class Warmup:
    steps: int = 3
    beta: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Schedule:
    warmup: Warmup = Warmup()
    decay: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Config:
    epochs: int = 200
    beta: float = 0.5
    folder: Path = Path("here")
    optim: Optim = Optim()
    schedule: Schedule = Schedule()


PRESETS = {"default": Config(), "smoke": Config(epochs=2)}


def config(*args):
    return parse(PRESETS, None, args).config


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Config()),
        (["--preset", "smoke"], Config(epochs=2)),
        (["--beta", "0.1", "--preset", "smoke"], Config(epochs=2, beta=0.1)),
        (["--preset=smoke", "--epochs", "7"], Config(epochs=7)),
    ],
)
def test_flags_override_the_preset(args, expected):
    assert config(*args) == expected


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--optim.learning-rate", "1"], Config(optim=Optim(learning_rate=1.0))),
        (["--learning-rate", "1"], Config(optim=Optim(learning_rate=1.0))),
        (["--learning_rate=1"], Config(optim=Optim(learning_rate=1.0))),
        (["--nesterov"], Config(optim=Optim(nesterov=True))),
        (
            ["--decay", "1", "--schedule.warmup.steps", "9"],
            Config(schedule=Schedule(warmup=Warmup(steps=9), decay=1.0)),
        ),
        (["--beta", "1"], Config(beta=1.0)),  # the field of the config itself, not that of schedule.warmup
    ],
)
def test_group_may_be_left_out_where_one_alone_has_the_name(args, expected):
    assert config(*args) == expected


def test_no_before_a_switch_stays_with_the_field():
    assert expand_flags(["--no-nesterov", "--folder", "a=b"], Config()) == ["--optim.no-nesterov", "--folder", "a=b"]


def test_a_name_in_two_groups_is_refused_without_its_group(capsys):
    assert expand_flags(["--steps", "3"], Config()) == ["--steps", "3"]
    with pytest.raises(SystemExit, match="2"):
        config("--steps", "3")
    assert config("--optim.steps", "3").optim.steps == 3


def test_dry_run_is_told_apart_from_the_config():
    assert parse(PRESETS, None, ["--dry-run", "--preset", "smoke"]) == (Config(epochs=2), True)
    assert not parse(PRESETS, None, []).dry_run


def test_help_names_the_presets_and_their_values(capsys):
    with pytest.raises(SystemExit):
        parse(PRESETS, "Train.", ["--preset", "smoke", "--help"])
    text = capsys.readouterr().out
    assert "{default,smoke}" in text and "(default: 2)" in text and "Train." in text


@pytest.mark.parametrize("args", [["--preset", "smok"], ["--stepz", "3"], ["--pre", "smoke"]])
def test_typing_errors_are_refused(args, capsys):
    with pytest.raises(SystemExit, match="2"):
        config(*args)
