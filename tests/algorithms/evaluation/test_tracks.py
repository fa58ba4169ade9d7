from dataclasses import replace

import numpy as np
import pytest

from algorithms.evaluation.headline import Pair
from algorithms.evaluation.pages.tracks import (
    Text,
    class_gains,
    class_tracks,
    figure_text,
    gap_tracks,
    percent,
    share_text,
    violation_tracks,
)
from tests.algorithms.evaluation.evaluation_toys import CLASSES, cells, evaluation, interval

RL, AWM = Pair("rl", "base"), Pair("awm", "base")
TONES = {"base": "base", "rl": "a", "awm": "b", "real": "real"}


def test_the_base_is_a_third_of_the_way_and_real_cells_at_the_end():
    tracks = gap_tracks(evaluation(), [RL], TONES)
    assert [track.label for track in tracks][:4] == ["all rewards", "MoA", "MoA, judge", "containment"]
    base, real, rl = tracks[0].marks
    assert (base.tone, real.tone, rl.tone) == ("base", "real", "a") and (base.at, real.at) == (
        pytest.approx(100 / 3),
        100,
    )
    assert rl.at == pytest.approx(100 * (0.65 + 0.5) / 1.5) and rl.span == pytest.approx((100 / 1.5, 125 / 1.5))
    assert tracks[0].texts == [Text(percent(0.65), f"{percent(0.5)} to {percent(0.75)}", 1)]


def test_each_pair_has_a_column_and_a_lane():
    found = evaluation()
    found["gap"]["awm-base"] = {"share": interval(-0.2, -9.0, -0.1), "own": found["gap"]["rl-base"]["own"]}
    track = gap_tracks(found, [RL, AWM], TONES)[0]
    rl, awm = track.marks[2:]
    assert [rl.lane, awm.lane] == pytest.approx([100 / 3, 200 / 3]) and awm.tone == "b"
    assert awm.span[0] == 0 and [text.sign for text in track.texts] == [1, -1]  # clipped to the axis


def test_without_a_gap_there_is_a_dash_and_no_mark():
    found = evaluation()
    found["gap"]["rl-base"]["share"] = interval(None, None, None)
    track = gap_tracks(found, [RL], TONES)[0]
    assert track.texts == [Text("–", "no gap")] and [mark.tone for mark in track.marks] == ["base", "real"]
    del found["gap"]
    assert gap_tracks(found, [RL], TONES) == [] == gap_tracks(evaluation(), [], TONES)


def test_classes_come_by_their_gain_with_intervals_over_their_contexts():
    stored = cells()
    for i, name in enumerate(stored.classes):
        level = float(CLASSES.index(name))
        stored.values["base"]["total"][i] = [0.0, 0.0]
        stored.values["rl"]["total"][i] = [level - 1 + 0.1 * (i % 2), level - 1 - 0.1 * (i % 2)]
    tracks = class_tracks(stored, [RL], TONES)
    assert [track.label for track in tracks] == [*reversed(CLASSES)] and tracks[0].note == "8 contexts"
    assert [track.texts[0].figure for track in tracks] == ["+1.000", "+0.000", "−1.000"]  # means over samples
    assert [track.texts[0].sign for track in tracks] == [1, 0, -1]
    assert [track.marks[1].at for track in tracks] == pytest.approx([100, 50, 0])
    assert class_tracks(stored, [RL, AWM], TONES) == []


def test_a_class_of_one_context_has_no_interval():
    (found,) = class_gains(replace(cells(n=1), shown=()), RL).values()
    assert np.isfinite(found.mean) and np.isnan(found.low)


def test_texts_have_a_true_minus_and_no_minus_zero():
    assert figure_text(interval(-0.2, -0.3, 0.1)) == Text("−0.200", "−0.300 to +0.100", 0)
    assert percent(-0.001) == percent(0) and share_text(interval(-0.5, None, None)).figure == percent(-0.5)
    assert percent(-0.5).startswith("−50")


def test_shares_of_far_off_images_stand_in_the_order_of_the_rows():
    stored = cells()
    tracks = violation_tracks(stored, evaluation(), TONES)
    assert [track.label for track in tracks][:2] == ["MoA", "containment"]
    base, _, real = ([int(track.texts[i].figure.split()[0]) for track in tracks] for i in range(3))
    assert max(real) < 15 < 50 < min(base)  # two standard deviations lower, in the toy
    assert [mark.tone for mark in tracks[0].marks] == ["base", "a", "real"]
