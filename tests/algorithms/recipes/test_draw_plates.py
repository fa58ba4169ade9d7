from algorithms.cli import run
from algorithms.recipes.draw_plates import PRESETS, estimate


def test_plates_are_drawn_from_the_command_line(tmp_path):
    flags = "--plates 1 --controls 1 --replicates 1 --compounds taxol --sites 1 --height 96 --width 128"
    run("draw-plates", args=[str(tmp_path / "fields"), *flags.split()])
    assert len(list((tmp_path / "fields").rglob("*.tif"))) == 2 * 3
    assert (tmp_path / "fields" / "truth.csv").is_file()


def test_the_estimate_grows_with_the_fields():
    assert estimate(PRESETS["default"]).seconds > 20 * estimate(PRESETS["smoke"]).seconds > 0
