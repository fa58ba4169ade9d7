"""The picture of the embedded world."""

import numpy as np
from PIL import Image

from cellenv.data.synthetic import SyntheticCells
from examples.studies.show_world import ShowWorldConfig, main


def picture(tmp_path, **options):
    main(ShowWorldConfig(output=tmp_path / "new" / "world.png", **options))
    return np.asarray(Image.open(tmp_path / "new" / "world.png"))


def test_a_row_for_each_mechanism_and_a_column_for_each_cell(tmp_path):
    two, again, three = (picture(tmp_path, columns=columns) for columns in (2, 2, 3))
    other = picture(tmp_path, columns=2, seed=1)
    assert np.array_equal(two, again) and two.shape == other.shape and not np.array_equal(two, other)
    rows = 1 + len(SyntheticCells("test").moas)
    assert two.shape[0] >= 96 * rows and three.shape[0] == two.shape[0] and three.shape[1] - two.shape[1] >= 96
