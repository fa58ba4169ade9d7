"""Synthetic cells on disk as BBBC021 is laid out."""

import csv

import numpy as np


def write_folder(path, data, rows, images, train=0):
    """Write these images of the rows, two weeks in turn, the first `train` of the train split; returns the table."""
    table = []
    for i, (row, image) in enumerate(zip(rows.tolist(), images, strict=True)):
        compound = int(data.perturbation[row])
        name = data.compounds[compound] if compound >= 0 else "DMSO"
        moa = data.moas[data.compound_moa[compound]] if compound >= 0 else "DMSO"
        key = f"Week{i % 2}_100_{i}_0.0"
        file = path / f"Week{i % 2}" / "100" / f"{i}_0.0.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
        table.append((i, key, f"Week{i % 2}", 100, name, moa, int(compound >= 0), "train" if i < train else "test"))
    with (path / "cells_df_all.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("", "SAMPLE_KEY", "BATCH", "PLATE", "CPD_NAME", "ANNOT", "STATE", "SPLIT"), *table]
        )
    with (path / "emb_fp.csv").open("w", newline="") as stream:
        rows = zip(("", *data.compounds), [range(data.conditions.shape[1]), *data.conditions.tolist()], strict=True)
        csv.writer(stream).writerows((name, *numbers) for name, numbers in rows)
    return table
