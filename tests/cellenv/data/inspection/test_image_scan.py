"""A scan names the images that are not as they should be, and no others."""

import numpy as np
import pytest

from cellenv.data.inspection.image_scan import scan_images
from cellenv.data.packed import ImageFiles

CHANNELS = ("actin", "tubulin", "DNA")


@pytest.fixture
def scan(tmp_path):
    """Scan images (H, W, C) by key; None is a file that is no image."""

    def scan(images, **options):
        for key, pixels in images.items():
            if pixels is None:
                (tmp_path / f"{key}.npy").write_bytes(b"no image")
            else:
                np.save(tmp_path / f"{key}.npy", pixels)
        files = ImageFiles(tmp_path, list(images), lambda key: f"{key}.npy", 3)
        return scan_images(files, range(len(images)), CHANNELS, **options)

    return scan


def noise(seed, high=200):
    return np.random.default_rng(seed).integers(0, high, (8, 8, 3), np.uint8)


def test_sound_images_are_not_named(scan):
    found = scan({"a": noise(0), "b": noise(1)})
    assert not any((found.unreadable, found.blank, found.saturated, found.equal, found.copies))


def test_each_fault_is_named_by_key_and_channel(scan):
    blank, saturated, equal = noise(1), noise(2), noise(3)
    blank[..., 1] = 7
    saturated[:2, :, 2] = 255  # a quarter; below
    saturated[:6, :1, 0] = 255  # 9 %
    equal[..., 2] = equal[..., 0]
    found = scan({"a": noise(0), "b": blank, "c": saturated, "d": equal, "e": None, "f": noise(0), "g": noise(0)})
    assert found.blank == {"tubulin": ["b"]}
    assert found.saturated == {"DNA": ["c"]}
    assert found.equal == {"actin = DNA": ["d"]}
    assert list(found.unreadable) == ["e"] and "damaged" in found.unreadable["e"]
    assert found.copies == [["a", "f", "g"]]


def test_blank_channels_are_not_equal_channels_too(scan):
    found = scan({"a": np.zeros((8, 8, 3), np.uint8)})
    assert found.blank == {name: ["a"] for name in CHANNELS} and not found.equal


def test_histograms_count_every_so_manyth_image(scan):
    images = {str(i): np.full((8, 8, 3), i, np.uint8) for i in range(6)}
    histograms = scan(images, every=3).histograms
    assert histograms.shape == (3, 256) and histograms.sum() == 2 * 3 * 64
    assert histograms[1, 0] == histograms[1, 3] == 64
