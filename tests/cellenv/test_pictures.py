from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from cellenv.pictures import composite, grid, inner_edge, label_margin, outlines, png


def one_channel(c: int) -> torch.Tensor:
    """(1, 3, 5, 5): channel c fully bright, the others dark."""
    images = -torch.ones(1, 3, 5, 5)
    images[:, c] = 1
    return images


def test_each_channel_has_its_microscopist_colour():
    actin, tubulin, dna = (composite(one_channel(c))[0, 0, 0] for c in range(3))
    assert (actin.argmax(), tubulin.argmax(), dna.argmax()) == (0, 1, 2)


def test_colours_follow_channel_names_not_positions():
    swapped = composite(one_channel(0), channels=("DNA", "tubulin", "actin"))
    np.testing.assert_array_equal(swapped, composite(one_channel(2)))


def test_dark_is_black_and_nan_is_black_and_overexposure_is_clipped():
    assert (composite(-torch.ones(1, 3, 4, 4)) == 0).all()
    assert (composite(torch.full((1, 3, 4, 4), torch.nan)) == 0).all()
    np.testing.assert_array_equal(composite(torch.full((1, 3, 4, 4), 9.0)), composite(torch.ones(1, 3, 4, 4)))


def test_composite_refuses_a_wrong_channel_count():
    with pytest.raises(ValueError, match=r"need images \(B, 3, H, W\) for actin, tubulin, DNA; got \(2, 4, 5, 5\)"):
        composite(torch.zeros(2, 4, 5, 5))


def test_inner_edge_is_the_ring_of_a_square_and_separates_touching_objects():
    square = np.zeros((1, 7, 7), np.int32)
    square[0, 2:5, 2:5] = 1
    ring = square.astype(bool)
    ring[0, 3, 3] = False
    np.testing.assert_array_equal(inner_edge(square), ring)
    touching = np.array([[[1, 1, 1, 2, 2, 2]]] * 1, np.int32)
    np.testing.assert_array_equal(inner_edge(touching)[0, 0], [False, False, True, True, False, False])


def test_outlines_draw_the_right_mask_on_the_right_picture():
    images = -torch.ones(2, 3, 8, 8)
    nuclei, cells = torch.zeros(2, 8, 8, dtype=torch.int32), torch.zeros(2, 8, 8, dtype=torch.int32)
    cells[1, 2:6, 2:6] = 1
    drawn = outlines(images, (nuclei, cells), zoom=2)
    assert drawn.shape == (2, 16, 16, 3)
    assert (drawn[0] == 0).all()  # no object, no outline
    assert tuple(drawn[1, 4, 4]) == (255, 214, 102) and (drawn[1, 6:10, 6:10] == 0).all()
    white = outlines(images, (cells, nuclei), zoom=2)
    assert tuple(white[1, 4, 4]) == (255, 255, 255)


def test_grid_keeps_every_pixel_in_its_row_and_column():
    red, blue = np.zeros((2, 20, 20, 3), np.uint8), np.zeros((3, 20, 20, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = grid([red, blue], ["red", "blue\nrow"], ["a", "b", "c"], zoom=2)
    is_red, is_blue = (sheet == (255, 0, 0)).all(-1), (sheet == (0, 0, 255)).all(-1)
    assert is_red.sum() == 2 * 40 * 40 and is_blue.sum() == 3 * 40 * 40
    assert np.nonzero(is_red)[0].max() < np.nonzero(is_blue)[0].min()
    assert (sheet[:, : np.nonzero(is_red)[1].min()] > 200).any()  # the label was written


def test_grid_refuses_rows_it_cannot_align():
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="one label"):
        grid([picture], [])
    with pytest.raises(ValueError, match="of one size; got uint8"):
        grid([picture, np.zeros((1, 9, 9, 3), np.uint8)], ["a", "b"])
    with pytest.raises(ValueError, match="float64"):
        grid([picture / 255], ["a"])


def test_a_given_margin_sets_the_width_whatever_the_label():
    picture = np.zeros((2, 20, 20, 3), np.uint8)
    assert grid([picture], ["a"], margin=150).shape[1] == 150 + 2 * (20 + 4)
    labels = ["a label\nof two lines"]
    assert grid([picture], labels).shape[1] == label_margin(labels, 20) + 2 * (20 + 4)
    assert label_margin(["aa"], 20) > label_margin(["a"], 20)


def test_png_keeps_every_pixel():
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(png(picture)))), picture)
