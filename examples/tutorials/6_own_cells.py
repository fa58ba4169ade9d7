"""
Cells of your own
=================

From the fields of a microscope to an environment, on two small plates that are drawn here in their place. With your own
files only the first step changes: ``cellfluxrl prepare`` takes a table of fields, or a pattern of file names.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt

from algorithms.recipes import draw_plates, prepare
from algorithms.recipes.prepare import PrepareConfig, TreatmentsConfig
from cellenv import ImagingCells, VirtualCellEnv
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.data.layouts import BBBC021
from cellenv.pictures import composite, grid

folder = Path(mkdtemp())
fields, prepared = folder / "fields", folder / "cells"

# %%
# Plates
# ------
# A TIFF for each stain of each field, under BBBC021's names, with its tables: which well holds which compound, and
# what its mechanism of action is.

draw_plates.main(replace(draw_plates.PRESETS["smoke"], folder=fields))
print(*sorted(path.relative_to(fields).as_posix() for path in fields.rglob("*.*"))[:6], sep="\n")
print((fields / "BBBC021_v1_moa.csv").read_text(encoding="utf-8"))

# %%
# Single cells
# ------------
# Fields are put under even light and on one scale of each plate and stain; every nucleus in focus becomes a crop. The
# same on the command line: ``cellfluxrl prepare FIELDS --out CELLS --embeddings FIELDS/emb_synthetic.csv``.

treatments = TreatmentsConfig(embeddings=Path("emb_synthetic.csv"))
prepare.main(PrepareConfig(folder=fields, out=prepared, treatments=treatments, workers=1))

# %%
# Look before you train
# ---------------------
# ``cellfluxrl check CELLS`` is a page of what there is of what, what is wrong with it and which flag mends it;
# ``train`` and ``evaluate`` look at the same first.

inspection = inspect_folder(CellFolder.read(prepared, layout=BBBC021))
for problem in inspection.problems:
    print("stops a run:" if problem.stops else "note:", problem.title, f"({problem.count})")
print(len(inspection.problems), "problems")

cells = ImagingCells(prepared, "train")
print(f"{len(cells.treated)} treated cells, {len(cells.controls)} controls; {', '.join(cells.moas)}")
shown = {"control": cells.controls[:6], "treated": cells.treated[:: len(cells.treated) // 6][:6]}
plt.figure(figsize=(9, 3.3), layout="constrained")
plt.imshow(grid([composite(cells.images(rows), cells.channels) for rows in shown.values()], list(shown), [""] * 6))
plt.axis("off")
plt.show()

# %%
# An environment of them
# ----------------------
# A context is a control cell and a compound of these plates; a generator turns the one into cells under the other.

env = VirtualCellEnv(cells, batch_size=4, seed=0)
reset = env.reset()
print("controls", tuple(reset["x0"].shape))
print("compounds", *(cells.compounds[i] for i in reset["perturbation"].tolist()))

# %%
# The embedded classifier and statistics are those of another world: cells of another microscope need their own, and a
# base that was trained on them. ``cellfluxrl fit classifier``, ``fit reference`` and ``train base`` with ``--data
# CELLS`` make them; *Your own plates* has all commands up to the evaluation of the trained generator.
