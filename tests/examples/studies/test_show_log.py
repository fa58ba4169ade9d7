"""The picture of a training's curves."""

import json

import numpy as np
from PIL import Image

from examples.studies.show_log import ShowLogConfig, main, panels

LOG = [
    {"iteration": i, "reward": float(i), "rewards/a/mean": 2.0 * i, "rewards/a/std": 1.0, "kl": 0.1 * i}
    for i in range(15)
]


def test_panels_are_what_the_log_has():
    assert panels(LOG) == {
        "reward": {"reward": "reward"},
        "kl": {"kl": "kl"},
        "gain of each reward since the first ten": {"a": "rewards/a/mean"},
    }


def test_a_log_becomes_a_picture(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in LOG))
    main(ShowLogConfig(log=file, output=tmp_path / "new" / "log.png"))
    image = Image.open(tmp_path / "new" / "log.png")
    picture = np.asarray(image.convert("L"))
    assert image.mode == "P"  # a palette: small enough for docs/
    assert picture.shape[1] > 2 * picture.shape[0] and (picture < 128).any()
