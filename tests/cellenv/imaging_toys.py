"""Folders of a few tiny images, as BBBC021 and other data sets are laid out."""

import csv

import numpy as np

from cellenv.data.layouts import BBBC021

HEADER = ["", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "STATE", "SPLIT"]
ROWS = [  # key, compound, MoA, state, split
    ("W1_10_a_0.0", "taxol", "Stab", "1", "train"),
    ("W1_11_b_1.0", "DMSO", "DMSO", "0", "train"),
    ("W1_10_c_2.0", "mevinolin/lovastatin", "Chol", "trt", "train"),
    ("W2_20_d_3.0", "docetaxel", "Stab", "1", "train"),
    ("W2_20_e_4.0", "DMSO", "DMSO", "control", "train"),
    ("W2_20_f_5.0", "taxol", "Stab", "1", "test"),
    ("W2_20_g_6.0", "DMSO", "DMSO", "0", "test"),
]
EMBEDDING = [["", "0", "1"], ["DMSO", 0, 0], ["taxol", 1, 2], ["docetaxel", 3, 4], ["mevinolin/lovastatin", 5, 6]]


def write_csv(file, rows):
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_table(folder, rows=ROWS):
    table = [(i, key, *key.split("_")[:2], *rest) for i, (key, *rest) in enumerate(rows)]
    write_csv(folder / "toy_df_all.csv", [HEADER, *table])


def add_unseen(folder, flags):
    """Add the column UNSEEN, with one of these values for each row."""
    file = folder / "toy_df_all.csv"
    header, *rows = file.read_text().splitlines()
    rows = [f"{row},{flag}" for row, flag in zip(rows, flags, strict=True)]
    file.write_text("\n".join([f"{header},UNSEEN", *rows, ""]))


def write_pixels(folder, key, pixels, layout=BBBC021):
    file = folder / layout.file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, pixels)


def write_folder(folder):
    """The rows above; image i holds 10 i in actin and tubulin, 255 in DNA, and 7 at the end of its first line."""
    write_table(folder)
    write_csv(folder / "emb_fp.csv", EMBEDDING)
    for i, (key, *_) in enumerate(ROWS):
        pixels = np.full((4, 6, 3), 10 * i, np.uint8)
        pixels[..., 2] = 255
        pixels[0, 5, 0] = 7
        write_pixels(folder, key, pixels)
