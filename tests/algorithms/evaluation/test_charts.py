from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from algorithms.evaluation.charts import encode_png


def test_the_upper_and_right_spines_are_removed():
    """The corner pixels of a black frame that is 20 px inside a picture of 100 x 100."""
    figure = Figure(figsize=(1, 1), dpi=100)
    axes = figure.add_axes((0.2, 0.2, 0.6, 0.6), xticks=[], yticks=[])
    framed = np.asarray(Image.open(BytesIO(encode_png(figure, []))).convert("L"))
    opened = np.asarray(Image.open(BytesIO(encode_png(figure, [axes]))).convert("L"))
    frame = {"left": np.s_[50, 15:25], "bottom": np.s_[75:85, 50], "right": np.s_[50, 75:85], "top": np.s_[15:25, 50]}
    assert {name for name, line in frame.items() if framed[line].min() < 128} == {"left", "bottom", "right", "top"}
    assert {name for name, line in frame.items() if opened[line].min() < 128} == {"left", "bottom"}
