"""Sample generators on the same contexts, measure them, and write the table and the page. n contexts, G samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.build import build_cells
from algorithms.clock import Clock
from algorithms.config import DataConfig
from algorithms.evaluation.held_out import count_pairs, held_out
from algorithms.evaluation.image_folder import ImageFolder, draw_references
from algorithms.evaluation.metrics import (
    EvaluationOptions,
    Evaluator,
    Figures,
    ProgressCallback,
    evaluate,
    save_evaluation,
)
from algorithms.evaluation.report import Gallery, page, save_page, tables
from algorithms.evaluation.samplers import base_sampler_rows, same_sampler_baselines
from cellenv.data.cells import CellData
from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.pictures import composite

MOST_PICTURES = 24  # contexts that a report shows


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much is drawn: n held-out contexts, G samples of each. seed: of contexts, noise and bootstrap."""

    contexts: int = 256
    group_size: int = 4
    batch_size: int = 64
    seed: int = 0


def held_out_cells(config: DataConfig, contexts: int, *, unseen: bool = False) -> tuple[CellData, int]:
    """The test split, and as many of these contexts as it has.

    Raises:
        ValueError: no compound has two treated test images.
    """
    data = build_cells(config, "test", unseen=unseen)
    if not (pairs := count_pairs(data)):
        raise ValueError("the test split has no two treated images of one compound; --include-unseen may add some")
    return data, min(contexts, pairs)


def sample_groups(generator: CellFlux, contexts: TensorDict, group_size: int, batch_size: int, bar: tqdm) -> Tensor:
    """G samples of each context, (n, G, C, H, W) on the CPU; the same noise for every generator."""
    device = next(generator.parameters()).device
    images = []
    for batch in repeat_groups(contexts, group_size).split(batch_size):
        batch = batch.to(device)
        images.append(generator.eval().sample(batch["x0"], batch["condition"], batch["seed"])[0].cpu())
        bar.update(len(batch))
    return torch.cat(images).unflatten(0, (len(contexts), group_size))


def evaluate_models(
    models: Mapping[str, CellFlux],
    data: CellData,
    output_dir: Path,
    *,
    evaluator: Evaluator,
    options: Comparison,
    folders: Mapping[str, ImageFolder] | None = None,
    config: Mapping[str, object] | None = None,
    name: str = "evaluation",
) -> Figures:
    """Sample, measure, print, write output_dir/{name}.json and .html; returns the evaluation.

    models: generators by row, "base" among them; one that shares its network is the base by another sampler, and rows
        by that sampler are compared with it too. data: a held-out split. config: goes into the report.
    folders: generated images by row. Those for just the contexts of the other rows are rows like them; others stand on
    their own contexts, without a difference to the base, and their distances are to real images of their compounds.

    Raises:
        ValueError: no model is called "base", or one is called "real".
    """
    if "base" not in models or "real" in models:
        raise ValueError(f"need a generator 'base' and none called 'real'; got {', '.join(models)}")
    clock = Clock()
    contexts, rows, references = held_out(data, options.contexts, options.seed)
    real = data.images(rows).unsqueeze(1)  # (n, 1, C, H, W)
    folders = folders or {}
    aligned = {row: folder.match_contexts(contexts) for row, folder in folders.items()}
    own_contexts = {row: folders[row].group_by_context(data) for row, images in aligned.items() if images is None}
    given = {row: images for row, images in aligned.items() if images is not None}
    settings = EvaluationOptions(
        seed=options.seed,
        batch_size=options.batch_size,
        config=describe_rows(models, folders, options) | dict(config or {}),
        baselines=same_sampler_baselines(models),
    )
    with tqdm(desc="evaluate", unit="image", leave=False) as bar:
        bar.total = options.contexts * (2 * len(models) * options.group_size + 2)
        bar.total += sum(map(count_images, given.values()))
        bar.total += sum(count_images(images) + len(images) for images, _ in own_contexts.values())
        sample = partial(
            sample_groups, contexts=contexts, group_size=options.group_size, batch_size=options.batch_size, bar=bar
        )
        with clock("sample"):
            samples = {row: sample(model) for row, model in models.items()} | given
        with clock("measure"):
            all_rows, references_of_all = samples | {"real": real}, data.images(references)
            evaluation = evaluate(all_rows, references_of_all, contexts, evaluator, settings, bar.update)
            for row, (images, own) in own_contexts.items():
                alone = replace(settings, baseline=row, baselines={})
                evaluation["rows"][row] = evaluate_alone(images, own, data, evaluator, alone, bar.update)
    for row, model in models.items():
        evaluation["rows"][row]["nfe"] = model.sampling.nfe
    columns = {"control": contexts["x0"]} | {row: images[:, 0] for row, images in samples.items()}
    gallery = first_of_each_class(columns | {"real": real[:, 0]}, data.class_names(contexts), data)
    title = f"{' and '.join(row for row in models if row != 'base') or 'base'} on held-out cells"
    save_evaluation(evaluation, Path(output_dir) / f"{name}.json")
    save_page(page(evaluation, gallery, title=title, phases=clock.seconds), Path(output_dir) / f"{name}.html")
    Console().print(*tables(evaluation), sep="\n")
    return evaluation


def describe_rows(
    models: Mapping[str, CellFlux], folders: Mapping[str, ImageFolder], options: Comparison
) -> dict[str, object]:
    """What a report says of the rows: how much was drawn, by which sampler, and which rows no training made."""
    about: dict[str, object] = {name: getattr(options, name) for name in ("contexts", "group_size", "seed")}
    about |= {f"{row} draws with": str(model.sampling) for row, model in models.items()}
    untrained = {"images": list(folders), "base by other samplers": base_sampler_rows(models)}
    return about | {name: rows for name, rows in untrained.items() if rows}


def evaluate_alone(
    images: Tensor,
    contexts: TensorDict,
    data: CellData,
    evaluator: Evaluator,
    options: EvaluationOptions,
    progress: ProgressCallback,
) -> Figures:
    """Figures of one row, called `options.baseline`, against random real images of the compounds of its contexts."""
    rng = torch.Generator().manual_seed(options.seed)
    references = data.images(draw_references(contexts["perturbation"], data, rng))
    found = evaluate({options.baseline: images}, references, contexts, evaluator, options, progress)
    figures: Figures = found["rows"][options.baseline]
    return figures


def count_images(images: Tensor) -> int:
    """n G of images (n, G, C, H, W)."""
    return len(images) * images.shape[1]


def first_of_each_class(columns: Mapping[str, Tensor], names: Sequence[str], data: CellData) -> Gallery:
    """The first context of each class, the first MOST_PICTURES of them, in all columns; names: (n,) of the contexts."""
    first = {name: i for i, name in reversed(list(enumerate(names)))}
    shown = [name for name in data.moas or data.compounds if name in first][:MOST_PICTURES]
    picked = torch.tensor([first[name] for name in shown])
    pictures = {name: composite(images[picked], data.channels) for name, images in columns.items()}
    return Gallery(shown, pictures)
