import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from cellenv.json_io import dump_json, read_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: tuple[int, int]
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"need sizes above 0; got {self.size}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    rate: float = 0.5
    about: dict[str, Any] = field(default_factory=dict)


def test_what_is_written_is_read(tmp_path):
    content = Outer(inner=Inner(size=(2, 3), kind="b"), rate=2, about={"µ": [1, None, {"x": "y"}]})
    (tmp_path / "a.json").write_bytes(dump_json(content))
    assert read_json(tmp_path / "a.json", Outer) == content


def test_nan_is_not_written():
    with pytest.raises(ValueError, match="JSON"):
        dump_json(Outer(inner=Inner(size=(2, 3)), rate=float("nan")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {"size": [2, 0]}}, r"inner: need sizes above 0; got \(2, 0\)"),
        ({"inner": {"size": [2]}}, r"inner.size.1: Field required"),
        ({"inner": {"size": [2, 3], "kind": "c"}}, "inner.kind: Input should be 'a' or 'b'"),
        ({"inner": {"size": [2, 3.5]}}, "inner.size.1: .*got 3.5"),
        ({"inner": {"size": [2, True]}}, "inner.size.1: .*got True"),
        ({"inner": None}, "inner: .*got None"),
        ({"rate": "0.5"}, "rate: Input should be a valid number"),
        ({"more": 1}, "more: Unexpected keyword argument, got 1"),
    ],
)
def test_a_foreign_value_is_named_with_the_file(tmp_path, change, message):
    (tmp_path / "a.json").write_text(json.dumps({"inner": {"size": [2, 3]}} | change))
    with pytest.raises(ValueError, match=rf"{tmp_path}/a\.json: {message}"):
        read_json(tmp_path / "a.json", Outer)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff\xfe", b'{"inner": ' * 10_000])
def test_what_is_no_json_is_named_with_the_file_and_in_few_words(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{tmp_path}/a\.json: Invalid JSON") as caught:
        read_json(tmp_path / "a.json", Outer)
    assert len(str(caught.value)) < 800
