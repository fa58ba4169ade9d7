"""Images of cells as pictures: false colours, mask outlines, labelled grids.

A picture is uint8 RGB, channels last, (H, W, 3); images are float (C, H, W) in [-1, 1].
B pictures, C channels, H, W pixels, z zoom.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cellenv.images import CHANNELS

COLOURS = {"actin": (1.00, 0.36, 0.12), "tubulin": (0.16, 0.86, 0.35), "DNA": (0.22, 0.42, 1.00)}  # RGB in [0, 1]
SPARE_COLOURS = (
    (0.95, 0.85, 0.20),
    (0.90, 0.25, 0.85),
    (0.20, 0.85, 0.90),
    (0.75, 0.75, 0.75),
)  # of other stains, in order
CELL_OUTLINE, NUCLEUS_OUTLINE = (255, 214, 102), (255, 255, 255)
BACKGROUND, TEXT = (18, 19, 23), (222, 224, 229)

Picture = NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)


def composite(images: Tensor, channels: Sequence[str] = CHANNELS) -> Picture:
    """False-colour pictures, 1 - prod_c (1 - a_c colour_c) with a_c = (x_c + 1) / 2.

    Actin is orange, tubulin green, DNA blue.
    images: (B, C, H, W) in [-1, 1]; values outside are clipped and nan is black. Returns (B, H, W, 3) uint8.

    Raises:
        ValueError: unless images are (B, C, H, W) with one channel per name.
    """
    if images.ndim != 4 or images.shape[1] != len(channels):
        raise ValueError(f"need images (B, {len(channels)}, H, W) for {', '.join(channels)}; got {tuple(images.shape)}")
    strength = (images.detach().float().nan_to_num(-1).cpu().numpy().clip(-1, 1) + 1) / 2
    spare = iter(SPARE_COLOURS * len(channels))
    dark = np.ones((len(images), *images.shape[2:], 3), np.float32)
    for c, name in enumerate(channels):
        colour = np.asarray(COLOURS.get(name) or next(spare), np.float32)
        dark *= 1 - strength[:, c, :, :, None] * colour  # (B, H, W, 3)
    return np.rint(255 * (1 - dark)).astype(np.uint8)


def enlarge(pictures: NDArray[Scalar], zoom: int) -> NDArray[Scalar]:
    """Repeat every pixel: (B, H, W, ...) -> (B, z H, z W, ...)."""
    return pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)


def inner_edge(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Object pixels with a 4-neighbour of another label; the image border is no edge. (B, H, W) -> bool."""
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)), mode="edge")
    neighbours = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    return (labels > 0) & np.any([labels != n for n in neighbours], axis=0)


def outlines(
    images: Tensor, masks: tuple[Tensor, Tensor], channels: Sequence[str] = CHANNELS, *, zoom: int = 2
) -> Picture:
    """Composites with the outline of every cell (amber) and nucleus (white), (B, z H, z W, 3) uint8.

    masks: (nuclei, cells), integer labels (B, H, W), 0 = background.

    Raises:
        ValueError: if images and channels, or images and masks, do not match.
    """
    pictures = enlarge(composite(images, channels), zoom)
    nuclei, cells = masks
    for labels, colour in ((cells, CELL_OUTLINE), (nuclei, NUCLEUS_OUTLINE)):
        if labels.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"need masks {(len(images), *images.shape[2:])} like the images; got {tuple(labels.shape)}"
            )
        pictures[inner_edge(enlarge(labels.cpu().numpy(), zoom))] = colour
    return pictures


def label_font(height: int) -> ImageFont.FreeTypeFont:
    """Font of the labels beside pictures of this height in px."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(11, min(16, height // 8))))


def label_margin(labels: Sequence[str], height: int, *, gap: int = 4) -> int:
    """Width in px of these labels in a `grid` of pictures of this height; labels may hold line breaks."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font = label_font(height)
    return int(max(pen.multiline_textbbox((0, 0), label, font=font)[2] for label in labels)) + 5 * gap


def grid(
    rows: Sequence[Picture],
    labels: Sequence[str],
    columns: Sequence[str] = (),
    *,
    zoom: int = 1,
    gap: int = 4,
    margin: int | None = None,
) -> Picture:
    """One picture of labelled rows of pictures, labels on the left, column titles on top if given.

    rows: for each row its pictures, (n, H, W, 3) uint8 as from `composite`, all of one size; n may differ.
    labels: one per row; may hold line breaks. margin: width of the labels in px, see `label_margin`; None
    fits them. Returns (H', W', 3) uint8.

    Raises:
        ValueError: unless there is one label per row and at least one row, and all pictures have one size.
    """
    if not rows or len(rows) != len(labels):
        raise ValueError(f"need one label for each of at least one row; got {len(rows)} rows and {len(labels)} labels")
    for row in rows:
        if row.dtype != np.uint8 or row.ndim != 4 or row.shape[3] != 3 or row.shape[1:] != rows[0].shape[1:]:
            raise ValueError(f"need rows of uint8 pictures (n, H, W, 3) of one size; got {row.dtype} {row.shape}")
    height, width = zoom * rows[0].shape[1], zoom * rows[0].shape[2]
    font = label_font(height)
    margin = label_margin(labels, height, gap=gap) if margin is None else margin
    top = int(font.size) + 3 * gap if columns else gap
    n_columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (margin + n_columns * (width + gap), top + len(rows) * (height + gap)), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for i, title in enumerate(columns):
        pen.text((margin + i * (width + gap) + width // 2, top - gap), title, TEXT, font, anchor="md")
    for j, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = top + j * (height + gap)
        pen.multiline_text((2 * gap, y + height // 2), label, TEXT, font, anchor="lm")
        for i, picture in enumerate(enlarge(row, zoom)):
            sheet.paste(Image.fromarray(picture), (margin + i * (width + gap), y))
    return np.asarray(sheet)


def png(picture: Picture) -> bytes:
    """Content of a PNG file of a picture (H, W, 3) uint8."""
    content = BytesIO()
    Image.fromarray(picture).save(content, format="PNG", optimize=True)
    return content.getvalue()
