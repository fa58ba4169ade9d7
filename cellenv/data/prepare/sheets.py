"""Contact sheet of a plate: fields with accepted cells outlined, and rejected ones with the reason.

C stains, H, W pixels.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from cellenv.data.prepare.filters import ACCEPTED
from cellenv.data.prepare.illumination import resize
from cellenv.data.prepare.nuclei import FoundNuclei
from cellenv.data.prepare.planes import Pixels
from cellenv.pictures import Picture, composite, grid, inner_edge, label_font

WIDTH = 640  # px of a field on the sheet
COLUMNS = 2
ACCEPTED_COLOUR, REJECTED_COLOUR = (255, 255, 255), (255, 90, 90)


def draw_field(pixels: Pixels, nuclei: FoundNuclei, verdicts: Sequence[str], channels: Sequence[str]) -> Picture:
    """A field (C, H, W) on the plate's scale, reduced: nuclei outlined, rejected ones in red with the reason."""
    _, height, width = pixels.shape
    shape = max(1, round(height * WIDTH / width)), WIDTH
    small = torch.from_numpy(np.stack([resize(plane, shape) for plane in pixels.clip(0, 1) ** 0.5]))
    picture = composite(2 * small[None] - 1, channels)[0]
    rows = ((np.arange(shape[0]) + 0.5) * height / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * width / shape[1]).astype(int)
    labels = nuclei.labels[np.ix_(rows, columns)]
    edge = inner_edge(labels[None])[0]
    is_accepted = np.array([False, *(verdict == ACCEPTED for verdict in verdicts)])[labels]
    picture[edge & is_accepted] = ACCEPTED_COLOUR
    picture[edge & ~is_accepted] = REJECTED_COLOUR
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for (y, x), verdict in zip(nuclei.centres, verdicts):
        if verdict != ACCEPTED:
            place = x * shape[1] / width, y * shape[0] / height
            pen.text(place, verdict, REJECTED_COLOUR, label_font(80), anchor="mm")
    return np.asarray(image)


def jpeg(picture: Picture) -> bytes:
    """Content of a JPEG file of a picture (H, W, 3) uint8: noise compresses badly, and slowly, without loss."""
    content = BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=92)
    return content.getvalue()


def plate_sheet(files: Sequence[Path], names: Sequence[str]) -> Picture | None:
    """The pictures of a plate's fields, in rows with the names of their wells on the left; None if there are none."""
    pictures = []
    for file in files:
        with Image.open(file) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    if not pictures:
        return None
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in pictures]
    starts = range(0, len(padded), COLUMNS)
    labels = ["\n".join(names[start : start + COLUMNS]) for start in starts]
    return grid([np.stack(padded[start : start + COLUMNS]) for start in starts], labels)
