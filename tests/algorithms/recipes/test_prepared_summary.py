from pathlib import Path

import pytest

from algorithms.recipes.prepared_summary import no_cell_left, print_summary
from cellenv.data.prepare.wells import CellRules
from tests.cellenv.data.prepare.plate_toys import RULES

OUT = Path("cells")
PLATES = {
    "W_1": {"wells": 2, "fields": 2, "nuclei": 9, "border": 3, "small": 1, "cells": 5},
    "W_2": {"wells": 1, "fields": 1, "nuclei": 2000, "border": 1, "cells": 1999},
}
MANIFEST = {
    "zoom": 1.5,
    "fields_left_out": {"no compound": [f"W_1_A{k:02}_s1" for k in range(9)]},
    "unreadable": {f"W_2_A{k:02}_s1": f"{k}.tif is missing" for k in range(7)},
    "wells_without_controls_in_their_split": ["W_1 B02"],
    "unseen": ["taxol"],
    "cells": {"train": {"DMSO": 4, "PP-2": 2000}, "test": {}},
}


def test_everything_that_is_left_out_is_said_and_what_comes_next(capsys):
    print_summary(OUT, PLATES, MANIFEST, RULES)
    text = capsys.readouterr().out
    for part in (
        "cells: 2,004 cells, zoom 1.5",
        "9 fields left out, no compound: W_1_A00_s1, W_1_A01_s1, W_1_A02_s1, W_1_A03_s1, W_1_A04_s1, ...",
        "a field left out: 4.tif is missing",
        f"2 more fields left out, listed in {OUT / 'manifest.json'}",
        "1 wells left out, no control in their split: W_1 B02",
        "held out, for --unseen: taxol",
        "no cell to test on: `prepare` needs a plate with two wells of the control, or two plates and --split-by plate",
        "2,004 cells to train on, 0 to test on. Next: cellfluxrl score cells\n",
    ):
        assert part in text
    assert "5.tif" not in text and "1,999" in text
    print_summary(OUT, PLATES, MANIFEST | {"cells": {"train": {}, "test": {"DMSO": 1}}}, RULES)
    assert "no cell to test on" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("channels", "flags"),
    [
        (("actin", "tubulin", "DNA"), "cells\n"),
        (("AGP", "ER", "DNA"), "cells --channels AGP,ER,DNA --nucleus DNA --cytoplasm STAIN\n"),
    ],
)
def test_channels_of_other_names_are_told_to_the_next_command(channels, flags, capsys):
    print_summary(OUT, PLATES, MANIFEST, CellRules(**{**vars(RULES), "channels": channels}))
    assert capsys.readouterr().out.endswith(f"score {flags}")


def test_without_a_treated_cell_the_reasons_are_counted():
    assert "2009 nuclei in 3 fields, left out 4 border, 1 small. Look at" in no_cell_left(OUT, PLATES)
    assert "0 nuclei in 1 fields, left out none" in no_cell_left(OUT, {"W_1": {"fields": 1, "nuclei": 0}})
