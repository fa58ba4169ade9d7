"""The command: a page in the terminal and one of HTML, and an exit code for what would stop a run."""

import re

import pytest

from algorithms.cli import main
from tests.cellenv.data.inspection.folders import ROWS, write_sound


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return write_sound(tmp_path / "cells")


def test_a_sound_folder_is_shown_on_a_page(folder, capsys):
    main(["check", "cells", "--min-cells", "2"])
    printed = capsys.readouterr().out
    assert "8 treated, 4 controls" in printed and "Stab" in printed and "wrote runs/check.html" in printed
    assert max(map(len, printed.splitlines())) <= 80
    html = (folder.parent / "runs" / "check.html").read_text()
    assert "Check of cells" in html and html.count("<svg") == 3 and not re.search(r"(src|href)=", html)


def test_what_would_stop_a_run_ends_with_an_error_that_skip_bad_takes_away(folder, capsys):
    (folder / "W1" / "10" / f"{ROWS[0][0].split('_', 2)[2]}.npy").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["check", "cells", "--min-cells", "2", "--output", "page.html"])
    assert ended.value.code == 1 and "images cannot be read" in (folder.parent / "page.html").read_text()
    assert ROWS[0][0] in capsys.readouterr().out
    main(["check", "cells", "--min-cells", "2", "--skip-bad"])


def test_stains_and_labels_are_those_of_the_flags(folder, capsys):
    main(["check", "cells", "--channels", "a,b,Hoechst", "--nucleus", "Hoechst", "--cytoplasm", "b", "--unlabelled"])
    printed = capsys.readouterr().out
    assert "a, actin, DNA" in printed and "no mechanisms of action" in printed


def test_a_dry_run_reads_a_few_images(folder, capsys):
    main(["check", "cells", "--dry-run"])
    assert "min_cells = 30" in capsys.readouterr().out and not (folder.parent / "runs").exists()
