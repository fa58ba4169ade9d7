"""From a config to cells, segmenter, rewards and generator; what cannot work is refused here, before any training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torchrl.envs import Compose

from algorithms.checkpoint import fingerprint
from algorithms.config import (
    PARENT,
    DataConfig,
    EvalConfig,
    FolderConfig,
    MatchingLossConfig,
    NucleusConfig,
    RewardConfig,
    SegmenterConfig,
    TrainingEvalConfig,
    TrainingRewardConfig,
)
from algorithms.losses.matching import TIME_WEIGHTS
from algorithms.workers.pool import WorkerPool
from algorithms.workers.remote import Channel
from algorithms.workers.scorer import LocalScorer, Scorer
from cellenv.data.cells import CellData
from cellenv.data.imaging import ImagingCells
from cellenv.data.layouts import LAYOUTS, Layout, rename_values
from cellenv.data.stains import choose_stains
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux
from cellenv.weights_io import digest, file_digest
from rewards import AveragedOverOrientations, JudgeClassifier, MoAClassifier, Reference, cellflux_rewards
from rewards.segmentation import ClassicalSegmenter, EmbeddedSegmenter, Segmenter
from rewards.segmentation.protocol import NucleusSegmenter
from rewards.steps import RewardSteps
from rewards.suite.spec import RewardSpec, condition_on, without_moa
from rewards.suite.terms import configure


def build_cells(config: DataConfig, split: Split, *, unseen: bool = False) -> CellData:
    """A split of the folder or of the embedded world. unseen: only the held-out compounds.

    Raises:
        ValueError: both the held-out compounds alone and all compounds are asked for.
    """
    if config.path is None:
        return SyntheticCells(split, unseen=unseen, seed=config.world, draw=config.draw)
    if unseen and config.include_unseen:
        raise ValueError("--unseen takes the held-out compounds alone, --include-unseen all: give one of them")
    return build_folder(config.path, config, split, unseen=None if config.include_unseen else unseen)


def build_folder(path: str | Path, config: FolderConfig, split: str | None, *, unseen: bool | None) -> ImagingCells:
    """A split of a folder; None takes all, as in `ImagingCells`."""
    layout = build_layout(path, config)
    return ImagingCells(path, split, layout=layout, unseen=unseen, cache=config.cache, skip_bad=config.skip_bad)


def build_layout(path: str | Path, config: FolderConfig) -> Layout:
    """The layout of a folder, with the files, stains and columns that the config names.

    Raises:
        FileNotFoundError: a table that the config names is not there.
        ValueError: a stain is none of the channels.
    """
    layout = choose_stains(
        LAYOUTS[config.layout], channels=config.channels, nucleus=config.nucleus, cytoplasm=config.cytoplasm
    )
    layout = rename_values(layout, config.split_names, config.state_names)
    return replace(
        layout,
        index=layout.index if config.index is None else str(_find_table(Path(path), config.index)),
        embedding=layout.embedding if config.embeddings is None else str(_find_table(Path(path), config.embeddings)),
        pairing=layout.pairing if config.pairing is None else config.pairing,
        label=None if config.unlabelled else config.label or layout.label,
    )


def _find_table(folder: Path, file: Path) -> Path:
    """A table as given, or in the folder or in its subfolder `metadata`; absolute."""
    places = [file, folder / file, folder / "metadata" / file]
    for place in places:
        if place.is_file():
            return place.absolute()
    raise FileNotFoundError(f"no table {' or '.join(map(str, places))}")


def check_labelled(data: CellData) -> None:
    """Raise ValueError unless the mechanisms of action are known."""
    if not data.moas:
        raise ValueError(
            "these cells have no mechanisms of action: need a column of the image table that names them"
            " (BBBC021: ANNOT), by --label COLUMN; with the column of the compound, each compound is its own"
        )


def check_generators(data: CellData, *generators: CellFlux) -> None:
    """Raise ValueError unless each generator takes conditions, and draws images, of the size that these cells have."""
    need = (tuple(data.size), data.conditions.shape[1])
    for config in (generator.config for generator in generators):
        came = (tuple(config.size), config.condition_dim)
        if came != need:
            raise ValueError(
                f"the generator draws {came[0]} images from {came[1]} numbers a compound, the cells have {need[0]} and"
                f" {need[1]}: give the generator of these cells (cellfluxrl train base trains one)"
            )


def build_base(config: TrainingEvalConfig, data: CellData, start: CellFlux) -> CellFlux | None:
    """Generator of the report's row "base"; None: the one that training starts from, `start`, or if it has no base.

    Raises:
        FileNotFoundError: there is no such generator.
        ValueError: its files are damaged, it draws other cells than these, or it is no longer what start came from.
    """
    path = start.metadata.get("base") if config.base == PARENT else config.base
    if path is None:
        return None
    try:
        base = CellFlux.from_pretrained(path)
        check_generators(data, base)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--eval.base {path}: {error}") from None
    weights = start.metadata.get("base_weights") if config.base == PARENT else None
    if weights is not None and weights != fingerprint(base):
        raise ValueError(f"--eval.base {path}: this is no longer what --generator was trained from; give its base")
    return base


def build_segmenter(config: SegmenterConfig, device: torch.device | str | None = None) -> tuple[NucleusSegmenter, str]:
    """The segmenter, and a name for exactly this one: the digest of its weights, or that it has none."""
    if config.segmenter == "classical":
        return ClassicalSegmenter(), "classical"
    if config.segmenter == "cellpose":
        from rewards.segmentation.cellpose import CellposeSegmenter

        cellpose = CellposeSegmenter(config.nucleus_weights, config.cell_weights, device=device)
        return cellpose, " ".join(["cellpose", *map(file_digest, cellpose.files)])
    weights = EmbeddedSegmenter.shipped if config.segmenter == "embedded" else config.segmenter
    return EmbeddedSegmenter.from_pretrained(weights).to(device), digest(weights)


def build_nucleus_segmenter(config: NucleusConfig) -> tuple[NucleusSegmenter, str]:
    """The segmenter of nuclei alone, and its name; Cellpose's network for nuclei serves as that for cells too."""
    weights = config.nucleus_weights
    if config.segmenter == "cellpose":
        from rewards.segmentation.cellpose import installed_family

        weights = weights or installed_family().WEIGHTS[0]
    return build_segmenter(SegmenterConfig(segmenter=config.segmenter, nucleus_weights=weights, cell_weights=weights))


class Names(NamedTuple):
    """What rewards know of the cells that they score, small enough for every worker."""

    moas: tuple[str, ...]
    compounds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RewardSuite:
    """The rewards that a config names, and the loaded models that they share."""

    specs: Sequence[RewardSpec]
    segmenter: Segmenter
    classifier: nn.Module | None
    reference: Reference
    shaping: Literal["default", "paper"]
    names: Names | None = None  # of the cells that they were built for

    def transform(self, channels: Sequence[str], segmenter: Segmenter | None = None) -> Compose:
        """A new transform that scores images with these channels. segmenter: in place of the suite's own."""
        segmenter = self.segmenter if segmenter is None else segmenter
        return cellflux_rewards(
            segmenter, self.classifier, self.reference, self.shaping, suite=self.specs, channels=channels
        )


def build_rewards(
    config: RewardConfig, device: torch.device | str, data: CellData | Names | None = None
) -> RewardSuite:
    """Load the models of the rewards that a config names.

    data: the cells that are scored; without mechanisms of action, the rewards conditioned on these are left out. None:
    cells of the embedded world.

    Raises:
        ValueError: a term is wrong, or the reference was fitted with another segmenter, or on other cells.
    """
    segmenter, name = build_segmenter(config, device)
    reference = Reference.load() if config.reference is None else Reference.load(config.reference)
    if (fitted := reference.about.get("segmenter", name)) != name:
        raise ValueError(
            f"the reference was fitted with the segmenter {fitted}, --segmenter {config.segmenter} is {name}: fit one"
            " with the segmenter that scores (cellfluxrl fit reference), or z-scores compare segmenters and not cells"
        )
    specs = condition_on(configure(config.terms), reference)
    if data is not None:
        specs = specs if data.moas else without_moa(specs, [term.partition("=")[0] for term in config.terms])
        reference = arrange_reference(reference, data)
    return RewardSuite(
        specs=specs,
        segmenter=segmenter,
        classifier=None if config.classifier is None else MoAClassifier.from_pretrained(config.classifier),
        reference=reference,
        shaping=config.shaping,
        names=None if data is None else Names(tuple(data.moas), tuple(data.compounds)),
    )


def arrange_reference(reference: Reference, data: CellData | Names) -> Reference:
    """The reference with the ids of these data: if it is one of compounds, in their order.

    Raises:
        ValueError: it has none of these compounds.
    """
    if reference.by != "compound":
        return reference
    if not set(reference.populations) & set(data.compounds):
        raise ValueError(
            f"the reference has none of the {len(data.compounds)} compounds of these cells, but"
            f" {', '.join(reference.populations[:3])} ...: fit one on these cells (cellfluxrl fit reference)"
        )
    return reference.arrange(data.compounds)


def training_steps(
    config: TrainingRewardConfig, suite: RewardSuite, channels: Sequence[str], device: torch.device | str
) -> RewardSteps:
    """The rewards of a suite as a training asks for them: its MoA is averaged over the orientations of an image."""
    if config.orientations == "all" and any("classifier" in spec.needs for spec in suite.specs):
        classifier = MoAClassifier.from_pretrained() if suite.classifier is None else suite.classifier
        suite = replace(suite, classifier=AveragedOverOrientations(classifier))
    return RewardSteps(suite.transform(channels).to(device))


def build_steps(
    config: TrainingRewardConfig, channels: Sequence[str], device: torch.device | str, names: Names | None = None
) -> RewardSteps:
    """The rewards of a training, for images with these channels, with models of their own; what workers call."""
    return training_steps(config, build_rewards(config, device, names), channels, device)


def build_scorer(
    config: TrainingRewardConfig, suite: RewardSuite, channels: Sequence[str], device: torch.device | str
) -> Scorer:
    """What scores the images of a training: the suite, on this device, or workers that build the same rewards."""
    steps = training_steps(config, suite, channels, device)
    if not config.workers:
        return LocalScorer(steps, config.on_failure)
    connect: Callable[[], Channel]
    where = config.worker_device
    if config.ray is None and where == torch.device(device).type:  # of several cards that of this process
        where = str(device)
    build = partial(build_steps, config, tuple(channels), where, suite.names)
    if config.ray is None:
        from algorithms.workers.process import ProcessChannel

        connect = partial(ProcessChannel, build)
    else:
        from algorithms.workers.ray_actor import RayChannel, start_ray

        gpu = config.worker_device != "cpu"
        start_ray(config.ray, config.workers, gpu=gpu)
        connect = partial(RayChannel, build, gpu=gpu)
    return WorkerPool(
        connect, config.workers, inputs=steps.inputs, timeout=config.timeout, on_failure=config.on_failure
    )


def build_judge(config: EvalConfig, data: CellData | None = None) -> JudgeClassifier | None:
    """The held-out classifier of these cells; None for cells without mechanisms of action, unless one is given."""
    unlabelled = data is not None and not data.moas
    return None if unlabelled and config.judge is None else JudgeClassifier.from_pretrained(config.judge)


def pull_to_base(config: MatchingLossConfig) -> dict[str, Any]:
    """What a loss on re-noised samples takes for its `MatchingLoss.kl_penalty`, by argument."""
    return {
        "kl_weight": config.kl_weight,
        "kl_share": config.kl_share,
        "kl_time_weight": TIME_WEIGHTS[config.kl_weighting],
    }
