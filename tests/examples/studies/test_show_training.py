"""The picture of what training changed."""

import numpy as np
import torch
from PIL import Image

from examples.studies.show_training import PRESETS, RED, main, outlined
from rewards.segmentation.protocol import Masks


def test_a_row_for_each_kind_of_image_and_a_column_for_each_context(tmp_path):
    file = tmp_path / "new" / "picture.png"
    main(type(PRESETS["smoke"])(model="embedded", output=file, contexts=4, columns=1))
    picture = np.asarray(Image.open(file))
    assert picture.shape[0] >= 4 * 96 and 2 * 96 <= picture.shape[1] < 4 * 96


def test_nuclear_pixels_outside_cells_are_red():
    nuclei, cells = torch.zeros(2, 1, 8, 8, dtype=torch.int32)
    nuclei[0, 2:4, 2:6], cells[0, 2:4, 4:8] = 1, 1
    picture = outlined(torch.zeros(1, 3, 8, 8), lambda images: Masks(nuclei, cells))
    red = (picture == RED).all(-1)[0]
    assert red[2:4, 2:4].all() and red.sum() == 4
