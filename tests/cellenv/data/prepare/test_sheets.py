import numpy as np
from PIL import Image

from cellenv.data.prepare.nuclei import measure_nuclei
from cellenv.data.prepare.sheets import ACCEPTED_COLOUR, REJECTED_COLOUR, draw_field, plate_sheet
from tests.cellenv.data.prepare.plate_toys import disks


def colours(picture, colour):
    return (picture == colour).all(-1)


def test_accepted_and_rejected_nuclei_have_their_colours():
    shape, centres = (100, 160), [(50, 40), (50, 120)]
    nuclei = measure_nuclei(sum((k + 1) * disks(shape, [c], 15).astype(np.int32) for k, c in enumerate(centres)))
    pixels = np.stack([np.zeros(shape), np.zeros(shape), nuclei.labels > 0]).astype(np.float32)
    picture = draw_field(pixels, nuclei, ["accepted", "blurred"], ("actin", "tubulin", "DNA"))
    assert picture.shape == (400, 640, 3)
    accepted, rejected = colours(picture, ACCEPTED_COLOUR), colours(picture, REJECTED_COLOUR)
    assert accepted[:, :320].any() and not accepted[:, 320:].any()
    assert rejected[:, 320:].any() and not rejected[:, :320].any()
    inside = np.s_[190:210, 470:490]  # the word in the middle of the second nucleus
    assert rejected[inside].any() and not accepted[190:210, 150:170].any()


def test_a_sheet_holds_all_fields(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(3)]
    for k, file in enumerate(files):
        Image.fromarray(np.full((40 + k, 60, 3), 50 * (k + 1), np.uint8)).save(file)
    sheet = plate_sheet(files, ["A01", "A02", "A03"])
    assert sheet is not None
    assert all(colours(sheet, [50 * (k + 1)] * 3).sum() >= 0.95 * 60 * (40 + k) for k in range(3))
    assert plate_sheet([], []) is None
