from dataclasses import dataclass

import pytest


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 200
    beta: float = 0.5


PRESETS = {"default": Config(), "smoke": Config(steps=2)}


@pytest.fixture
def parse(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    from command_line import parse

    return parse


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Config()),
        (["--preset", "smoke"], Config(steps=2)),
        (["--beta", "0.1", "--preset", "smoke"], Config(steps=2, beta=0.1)),
        (["--preset=smoke", "--steps", "7"], Config(steps=7)),
    ],
)
def test_flags_override_the_preset(parse, args, expected):
    assert parse(PRESETS, None, args) == expected


def test_help_names_the_presets_and_their_values(parse, capsys):
    with pytest.raises(SystemExit):
        parse(PRESETS, "Train.", ["--preset", "smoke", "--help"])
    text = capsys.readouterr().out
    assert "{default,smoke}" in text
    assert "(default: 2)" in text


@pytest.mark.parametrize("args", [["--preset", "smok"], ["--stepz", "3"], ["--pre", "smoke"]])
def test_typing_errors_are_refused(parse, args, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(PRESETS, None, args)
