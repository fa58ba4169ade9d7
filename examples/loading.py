"""Cells, segmenters and rewards, as the options of a script (options.py) ask for them."""

from typing import Any

import torch
from baselines import IMPA, PhenDiff
from options import Cells, Eyes, Folder, Scoring

from cellenv.checkpoints import digest, file_digest
from cellenv.data.cells import CellData
from cellenv.data.imaging import ImagingCells
from cellenv.data.presets import LAYOUTS
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux
from rewards import JudgeClassifier, MoAClassifier, Reference
from rewards.segmentation import CellposeSegmenter, ClassicalSegmenter, EmbeddedSegmenter, Segmenter


def load_cells(options: Cells, split: Split, *, unseen: bool = False) -> CellData:
    """A split of the folder or of the embedded world. unseen: the held-out compounds alone."""
    if options.data is None:
        return SyntheticCells(split, unseen=unseen)
    if unseen and options.include_unseen:
        raise ValueError("--unseen takes the held-out compounds alone, --include-unseen all: give one of them")
    return load_folder(options, split, unseen=None if options.include_unseen else unseen)


def load_folder(options: Folder, split: str | None, *, unseen: bool | None) -> ImagingCells:
    """A split of the folder; None takes all, as in `ImagingCells`."""
    layout, cache, skip_bad = LAYOUTS[options.layout], options.cache, options.skip_bad
    return ImagingCells(options.data, split, layout=layout, unseen=unseen, cache=cache, skip_bad=skip_bad)


def check_labelled(data: CellData) -> None:
    """Raise unless the mechanisms of action are known."""
    if not data.moas:
        raise ValueError(
            "these cells have no mechanisms of action: need a column of the image table that names them"
            " (BBBC021: ANNOT), and a layout that reads it"
        )


def check_generators(data: CellData, *generators: CellFlux | PhenDiff | IMPA) -> None:
    """Raise unless each draws images like these from conditions like these."""
    need = (tuple(data.size), data.conditions.shape[1])
    for config in (generator.config for generator in generators):
        came = (tuple(config.size), config.condition_dim)
        if came != need:
            raise ValueError(
                f"the generator draws {came[0]} images from {came[1]} numbers a compound, the cells have {need[0]} and"
                f" {need[1]}: give the generator of these cells (train_base.py --data trains one)"
            )


def load_segmenter(options: Eyes, device: torch.device | str | None = None) -> tuple[Segmenter, str]:
    """The segmenter, and what names exactly this one: the digest of its weights, or that it has none."""
    if options.segmenter == "classical":
        return ClassicalSegmenter(), "classical"
    if options.segmenter == "cellpose":
        cellpose = CellposeSegmenter(options.nucleus_weights, options.cell_weights, device=device)
        return cellpose, " ".join(["cellpose", *map(file_digest, cellpose.files)])
    weights = EmbeddedSegmenter.shipped if options.segmenter == "embedded" else options.segmenter
    return EmbeddedSegmenter.from_pretrained(weights).to(device), digest(weights)


def load_suite(options: Scoring, device: torch.device | str) -> dict[str, Any]:
    """The arguments of `cellflux_rewards`. A reference that was fitted with another segmenter is refused."""
    segmenter, name = load_segmenter(options, device)
    reference = Reference.load() if options.reference is None else Reference.load(options.reference)
    if (fitted := reference.about.get("segmenter", name)) != name:
        raise ValueError(
            f"the reference was fitted with the segmenter {fitted}, --segmenter {options.segmenter} is {name}: fit one"
            " with the segmenter that scores (fit_reference.py), or z-scores compare segmenters and not cells"
        )
    classifier = options.classifier and MoAClassifier.from_pretrained(options.classifier)
    return {"segmenter": segmenter, "classifier": classifier, "reference": reference, "preset": options.rewards}


def load_judge(options: Scoring) -> JudgeClassifier:
    """The judging classifier of these cells."""
    return JudgeClassifier.from_pretrained(options.judge)
