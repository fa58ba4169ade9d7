"""
Read an evaluation
==================

An evaluation compares generators with each other and with real cells, on contexts that none was trained on. Here the
two generators are one: the base with its eight sampler steps, and with two, which should be worse. Twelve contexts are
far too few for a claim, and the intervals say so.
"""

import copy
from pathlib import Path
from tempfile import mkdtemp

from algorithms import build_evaluator, evaluate_models
from algorithms.evaluation.comparison import Comparison
from cellenv import load_embedded

generator, cells = load_embedded("test")
hasty = copy.copy(generator)
hasty.steps = 2

# %%
# The tables
# ----------
# A row is a set of images, each figure a mean with its 95 % interval over contexts. Rows draw from the same noise, so
# their *differences* are paired, and much surer than the rows are: read those, and call nothing a gain whose interval
# holds 0.

evaluation = evaluate_models(
    {"base": generator, "two-steps": hasty},
    cells,
    Path(mkdtemp()),
    evaluator=build_evaluator(cells),
    options=Comparison(contexts=12, group_size=2),
)

# %%
# The same as numbers
# -------------------
# ``evaluation.json`` holds what the page shows: ``rows``, and ``paired`` differences.

difference = evaluation["paired"]["two-steps-base"]
for name in ("total", "moa", "judge_moa", "containment", "judge_containment"):
    low, high = difference[name]["ci"]
    verdict = "no claim" if low <= 0 <= high else "better" if low > 0 else "worse"
    print(f"{name:18s} {difference[name]['mean']:+.3f} ({low:+.3f}, {high:+.3f})  {verdict}")

# %%
# Three questions
# ---------------
# *Is the gain real?* A gain in ``moa`` or ``containment`` must show in ``judge_moa`` or ``judge_containment`` too: the
# judges took no part in training.
#
# *What did it cost?* ``frechet`` and ``kernel`` are distances to real images, ``diversity`` is that of images of one
# context. Cells that all look alike earn high rewards.
#
# *How far is it to real cells?* The row ``real`` is the level to reach, and the distance of real to other real images
# the floor of the distances.

for row, figures in evaluation["rows"].items():
    shown = {name: figures[name] for name in ("frechet", "diversity")}
    print(f"{row:10s}", {name: None if value is None else round(value, 2) for name, value in shown.items()})
