"""The bounds on readers can fail."""

import pytest

from tests.fuzz import damage


def test_a_reader_that_never_ends_is_found_though_it_calls_every_error_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "SECONDS", 0.05)
    file = tmp_path / "file"

    def read():
        try:
            while True:
                pass
        except Exception as error:
            raise ValueError(f"{file} is damaged: {error}") from error

    with pytest.raises(AssertionError, match=r"took more than 0\.05 s"):
        damage.refuse_or_read(read, file)
