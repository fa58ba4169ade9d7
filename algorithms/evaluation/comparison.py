"""Sample generators on the same contexts, measure them, and write the table and the page. n contexts, G samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from tensordict import TensorDict
from torch import Tensor

from algorithms.build import build_cells
from algorithms.checkpoint import fingerprint
from algorithms.clock import Clock
from algorithms.config import DataConfig
from algorithms.evaluation.compared import TAKEN
from algorithms.evaluation.evaluated_cells import (
    CellPicture,
    EvaluatedCells,
    ShownContext,
    choose_contexts,
    gain,
    rounded,
    webp,
)
from algorithms.evaluation.headline import shown_pairs
from algorithms.evaluation.held_out import count_pairs, held_out
from algorithms.evaluation.image_folder import ImageFolder, draw_references
from algorithms.evaluation.measurement import Evaluator, Row, measure_references, measure_row
from algorithms.evaluation.metrics import EvaluationOptions, Figures, compared_pairs, evaluate
from algorithms.evaluation.pages.outlines import area_path, outline_path, outside_cells
from algorithms.evaluation.pages.report_page import page, save_page
from algorithms.evaluation.report import tables
from algorithms.evaluation.samplers import base_sampler_rows, same_sampler_baselines
from algorithms.evaluation.stored_run import StoredRun, save_evaluation
from algorithms.terminal import show
from cellenv.data.cells import CellData
from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.pictures import composite


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much is drawn: n held-out contexts, G samples of each. seed: of contexts, noise and bootstrap.

    runs: folder of the training of each row, whose log and best-of-N selection the page shows.
    """

    contexts: int = 512
    group_size: int = 2
    batch_size: int = 64
    seed: int = 0
    runs: Mapping[str, Path] = field(default_factory=dict)


def held_out_cells(config: DataConfig, contexts: int, *, unseen: bool = False) -> tuple[CellData, int]:
    """The test split, and as many of these contexts as it has.

    Raises:
        ValueError: there are no two pairs of treated test images of one compound.
    """
    data = build_cells(config, "test", unseen=unseen)
    if (pairs := count_pairs(data)) < 2:
        raise ValueError(
            f"the test split has {pairs} pairs of treated images of one compound, distances need 2: --include-unseen"
            " may add some"
        )
    return data, min(contexts, pairs)


def sampled_row(generator: CellFlux, contexts: TensorDict, group_size: int) -> Row:
    """G samples of each context, on the CPU; the same noise for every generator."""
    seeds = repeat_groups(contexts.select("seed"), group_size)["seed"]  # (n G,)
    device = next(generator.parameters()).device

    def sample(index: Tensor) -> Tensor:
        batch = contexts[index // group_size].to(device)
        return generator.eval().sample(batch["x0"], batch["condition"], seeds[index].to(device))[0].cpu()

    return Row(sample, group_size)


def real_row(data: CellData, rows: Tensor) -> Row:
    """One real image a context: those of these rows, (n,)."""
    return Row(lambda index: data.images(rows[index]), 1)


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
    """Sample, measure, print, write output_dir/{name}.json, _cells.json, .html; return the evaluation on all ranks.

    models: generators by row, "base" among them; one that shares its network is the base by another sampler, and rows
        by that sampler are compared with it too. data: a held-out split. config: goes into the report.
    folders: generated images by row. Those for just the contexts of the other rows are rows like them; others stand on
        their own contexts, without a difference to the base, and their distances are to real images of their compounds.

    Raises:
        ValueError: no model is called "base", one is called "control" or "real", or `compared_pairs` refuses the names.
    """
    folders = folders or {}
    if "base" not in models or {*TAKEN} & {*folders, *models} != {"base"}:
        raise ValueError(f"need a generator 'base' and none called control or real; got {', '.join(models)}")
    clock = Clock()
    contexts, rows, references = held_out(data, options.contexts, options.seed)
    aligned = {row: folder.match_contexts(contexts) for row, folder in folders.items()}
    own_contexts = {row: folders[row].group_by_context(data) for row, images in aligned.items() if images is None}
    given = {row: images for row, images in aligned.items() if images is not None}
    settings = EvaluationOptions(
        seed=options.seed,
        config=dict(config or {}) | describe_rows(models, folders, options),
        baselines=same_sampler_baselines(models),
    )
    compared_pairs([*models, *given, "real"], settings)  # before anything is drawn
    all_rows = {
        **{row: timed(clock, "sample", sampled_row(x, contexts, options.group_size)) for row, x in models.items()},
        **{row: Row.of(images) for row, images in given.items()},
        "real": real_row(data, rows),
    }
    size = options.batch_size
    reference = measure_references(real_row(data, references), len(references), evaluator, batch_size=size)
    values = {
        row: measure_row(source, contexts, evaluator, batch_size=size, what=f"evaluate {row}")
        for row, source in all_rows.items()
    }
    evaluation = evaluate(values, reference, evaluator.population(contexts), evaluator, settings)
    for row, (images, own) in own_contexts.items():
        alone = replace(settings, baseline=row, baselines={})
        evaluation["rows"][row] = evaluate_alone(images, own, data, evaluator, alone, size)
    for row, model in models.items():
        evaluation["rows"][row]["nfe"] = model.sampling.nfe
    evaluation["weights"] = {row: fingerprint(model) for row, model in models.items()}
    if PartialState().is_main_process:
        seconds = clock.lap()
        phases = {"sample": seconds["sample"], "measure": seconds["other"]}
        draw_cells = partial(collect_cells, evaluation, values, contexts, all_rows, data, evaluator, seed=options.seed)
        title = f"{' and '.join(row for row in models if row != 'base') or 'base'} on held-out cells"
        publish(evaluation, Path(output_dir) / name, draw_cells, title=title, phases=phases, runs=options.runs)
    return evaluation


def publish(
    evaluation: Figures,
    stem: Path,
    draw_cells: Callable[[], EvaluatedCells],
    *,
    title: str,
    phases: Mapping[str, float],
    runs: Mapping[str, Path],
) -> None:
    """Write {stem}.json and print the tables, then draw: {stem}_cells.json and {stem}.html.

    runs: folder of the training of each row, whose log and best-of-N selection the page shows.
    """
    save_evaluation(evaluation, stem.with_name(f"{stem.name}.json"))
    show(*tables(evaluation))
    cells = draw_cells()
    cells.save(stem.with_name(f"{stem.name}_cells.json"))
    found = StoredRun.of_rows(stem, evaluation, cells, runs)
    save_page(page(found, title=title, phases=phases), stem.with_name(f"{stem.name}.html"))


def timed(clock: Clock, phase: str, row: Row) -> Row:
    """The row, with the time that its images take counted in a phase."""

    def images_at(index: Tensor) -> Tensor:
        with clock(phase):
            return row.images_at(index)

    return row._replace(images_at=images_at)


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
    batch_size: int,
) -> Figures:
    """Figures of one row, called `options.baseline`, against random real images of the compounds of its contexts.

    Where these have fewer real images than contexts, distances are of as many contexts: a real image that stands twice
    would look like a cluster.
    """
    row, rng = options.baseline, torch.Generator().manual_seed(options.seed)
    rows = draw_references(contexts["perturbation"], data, rng)
    reference = measure_references(real_row(data, rows), len(rows), evaluator, batch_size=batch_size)
    values = measure_row(Row.of(images), contexts, evaluator, batch_size=batch_size, what=f"evaluate {row}")
    population = evaluator.population(contexts)

    def figures(kept: Tensor) -> Figures:
        found: Figures = evaluate({row: values[kept]}, reference[kept], population[kept], evaluator, options)
        return found["rows"][row]

    found = figures(torch.arange(len(rows)))
    distinct = torch.from_numpy(np.unique(rows.numpy(), return_index=True)[1])  # where a real image stands first
    if 2 <= len(distinct) < len(rows):
        found |= {name: x for name, x in figures(distinct).items() if name.startswith(("frechet", "kernel", "w1_"))}
    return found


def collect_cells(
    evaluation: Figures,
    values: Mapping[str, TensorDict],
    contexts: TensorDict,
    rows: Mapping[str, Row],
    data: CellData,
    evaluator: Evaluator,
    *,
    seed: int,
) -> EvaluatedCells:
    """All values, and pictures of chosen contexts: control, and the first image of every row, made anew.

    values: what `measure_row` found of each row, batch [n, G]. The gain by which contexts are chosen is that of the
    first trained row. seed: of the random ones.
    """
    found = {row: {name: value.numpy() for name, value in x["interval"].items()} for row, x in values.items()}
    trained = [pair.row for pair in shown_pairs(evaluation) if pair.baseline == "base"]
    classes = data.class_names(contexts)
    chosen = choose_contexts(
        gain({row: x["total"] for row, x in found.items()}, trained[0] if trained else None),
        classes,
        data.moas or data.compounds,
        columns=1 + len(rows),
        seed=seed,
    )
    index, (height, width) = torch.tensor(list(chosen)), data.size[1:]
    images = {"control": contexts["x0"][index]}
    images |= {name: row.images_at(index * row.group_size) for name, row in rows.items()}
    pictures = {name: draw_pictures(x, data, evaluator) for name, x in images.items()}
    return EvaluatedCells(
        size=(height, width),
        classes=tuple(classes),
        compounds=tuple(data.compounds[p] for p in contexts["perturbation"].tolist()),
        seeds=tuple(contexts["seed"].tolist()),
        values={row: {name: rounded(value) for name, value in x.items()} for row, x in found.items()},
        measures={
            row: {name: rounded(value.numpy()) for name, value in x["measure"].items()} for row, x in values.items()
        },
        shown=tuple(
            ShownContext(context=i, groups=tuple(groups), pictures={name: drawn[k] for name, drawn in pictures.items()})
            for k, (i, groups) in enumerate(chosen.items())
        ),
    )


def draw_pictures(images: Tensor, data: CellData, evaluator: Evaluator) -> list[CellPicture]:
    """Pictures of images (k, C, H, W), with outlines if the evaluator has a segmenter."""
    coded = [webp(picture) for picture in composite(images, data.channels)]
    if evaluator.segment is None:
        return [CellPicture(image=image) for image in coded]
    masks = evaluator.segment(images)
    nuclei, cells = (labels.cpu().numpy() for labels in masks)
    return [
        CellPicture(image=image, nuclei=outline_path(n), cells=outline_path(c), outside=area_path(outside_cells(n, c)))
        for image, n, c in zip(coded, nuclei, cells, strict=True)
    ]
