"""A folder of twelve sound images: two compounds of two mechanisms and controls, on one plate, in both splits."""

import numpy as np

from tests.cellenv.imaging_toys import write_csv, write_pixels, write_table

CLASSES = [("taxol", "Stab", "1"), ("ALLN", "Degr", "1"), ("DMSO", "DMSO", "0")]
ROWS = [
    (f"W1_10_{split}{n}{name[0]}_0.0", name, moa, state, split)
    for split in ("train", "test")
    for n in range(2)
    for name, moa, state in CLASSES
]
EMBEDDING = [["", "0", "1"], ["taxol", 1, 2], ["ALLN", 3, 4], ["unused", 5, 6]]


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 200, (8, 8, 3), np.uint8)


def write_sound(folder, rows=ROWS, embedding=EMBEDDING):
    folder.mkdir(exist_ok=True)
    write_table(folder, rows)
    write_csv(folder / "emb_fp.csv", embedding)
    for i, (key, *_) in enumerate(rows):
        write_pixels(folder, key, pixels(i))
    return folder
