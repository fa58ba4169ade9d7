"""Compare generators with their base and with real cells, on the same held-out contexts and the same noise.

    python examples/evaluate.py --model rl=runs/nft/model --output-dir runs/nft
    python examples/evaluate.py --model rl=runs/nft/model --output-dir runs/nft --unseen
    python examples/evaluate.py --model rl=runs/nft/model --images theirs=DIR    # a folder as generate.py writes

Prints the table and writes evaluation.json and evaluation.html (with --unseen: evaluation_unseen.*). What each figure
means: docs/evaluation.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from command_line import parse
from options import Cells, Scoring


@dataclass(frozen=True, kw_only=True)
class Config(Scoring):
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # NAME=DIR of a generator; may be repeated
    images: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # NAME=DIR of generated images; may be repeated
    base: str = "embedded"  # DIR of the generator that they started from, or the name of a shipped one
    output_dir: Path = Path("runs/evaluation")
    contexts: int = 256  # held-out contexts; fewer if there are not twice as many treated images
    group_size: int = 4  # samples of each context, by noise alone
    unseen: bool = False  # the compounds that no generator was trained on
    inception: Path | None = None  # torch-fidelity's Inception weights: adds FID and KID, at 0.3 s an image
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts, noise and bootstrap


PRESETS = {
    "default": Config(),
    "paper": Config(rewards="paper"),
    "smoke": Config(contexts=12, group_size=2, output_dir=Path("runs/evaluation-smoke")),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Mapping
from functools import partial

import torch
from image_folder import ImageFolder, companions
from loading import check_generators, check_labelled, load_cells, load_judge, load_suite
from rich.console import Console
from tensordict import TensorDict
from torch import Tensor, nn
from tqdm import tqdm

from algorithms.clock import Clock
from algorithms.evaluation import Rulers, evaluate, held_out, pairs_of, save_evaluation
from algorithms.inception import inception_features
from algorithms.report import Gallery, page, save_page, tables
from cellenv.data.cells import CellData
from cellenv.env import repeat_groups
from cellenv.generator import CellFlux
from cellenv.pictures import composite
from rewards import JudgeClassifier, JudgeSegmenter, Reference, cellflux_rewards
from rewards.classifier import Classifier
from rewards.measures import containment, measure
from rewards.segmentation import CHANNELS, EmbeddedSegmenter, Masks, Segmenter

MEASURES = {  # what each reward but MoA and containment measures
    "roundness": "roundness",
    "nucleus_size": "nucleus_area_max",
    "cell_size": "cell_area_max",
    "nucleus_count": "nucleus_count",
    "cell_count": "cell_count",
}


class Remember:
    """A segmenter that keeps its last masks: rewards and measures ask about the same images one after the other."""

    def __init__(self, segmenter: Segmenter):
        self.segmenter, self.images, self.masks = segmenter, None, None

    def __call__(self, images: Tensor, channels: tuple[str, ...] = CHANNELS) -> Masks:
        last = self.images
        if last is None or last.data_ptr() != images.data_ptr() or last.shape != images.shape:
            self.images, self.masks = images, self.segmenter(images, channels)  # while held, no other has its address
        return self.masks


def make_rulers(
    data: CellData,
    *,
    preset: Literal["default", "paper"] = "default",
    segmenter: Segmenter | None = None,
    classifier: nn.Module | None = None,
    judge: Classifier | None = None,
    reference: Reference | None = None,
    inception: Path | None = None,
    device: torch.device | str = "cpu",
) -> Rulers:
    """Rewards, measures and judges for images of these data: those given, and of the embedded world what is None."""
    check_labelled(data)
    segmenter = Remember(EmbeddedSegmenter.from_pretrained().to(device) if segmenter is None else segmenter)
    reference = Reference.load() if reference is None else reference
    judge = (JudgeClassifier.from_pretrained() if judge is None else judge).to(device)
    for owner, moas in (("judge", judge.moas), ("reference", reference.moas)):
        if moas != tuple(data.moas):
            raise ValueError(
                f"the {owner} knows the MoAs {moas}; the data have {data.moas}: give weights for these data"
            )
    suite = cellflux_rewards(segmenter, classifier, reference, preset).to(device)
    judge_segmenter = JudgeSegmenter.from_pretrained().to(device)

    def score(images: Tensor, contexts: TensorDict) -> dict[str, Tensor]:
        scored = suite(contexts.set("action", images))
        return {"total": scored["reward"], **scored["rewards"]}

    def judge_moa(images: Tensor) -> tuple[Tensor, Tensor]:
        features = judge.features(images)  # (B, F)
        return (judge.head(features) / judge.temperature).softmax(1), features

    def judge_containment(images: Tensor) -> Tensor:
        return containment(*judge_segmenter(images, data.channels)).nan_to_num(nan=0.0)  # no nucleus: as the reward

    def measures(images: Tensor) -> dict[str, Tensor]:
        values = measure(segmenter(images, data.channels))
        return {name: values[key] for name, key in MEASURES.items()}

    return Rulers(
        score=score,
        judge=judge_moa,
        judge_containment=judge_containment,
        measure=measures,
        sigma={name: reference.sigma(key) for name, key in MEASURES.items()},
        features={"inception": inception_features(inception, device)} if inception else {},
        device=device,
    )


def sample_groups(generator: CellFlux, contexts: TensorDict, group_size: int, batch_size: int, bar: tqdm) -> Tensor:
    """G samples of each context, (n, G, C, H, W) on the CPU; the same noise for every generator."""
    device = next(generator.parameters()).device
    images = []
    for batch in repeat_groups(contexts, group_size).split(batch_size):
        batch = batch.to(device)
        images.append(generator.eval().sample(batch["x0"], batch["condition"], batch["seed"])[0].cpu())
        bar.update(len(batch))
    return torch.cat(images).unflatten(0, (len(contexts), group_size))


def evaluate_run(
    models: Mapping[str, CellFlux],
    data: CellData,
    output_dir: Path,
    *,
    rulers: Rulers,
    folders: Mapping[str, ImageFolder] | None = None,
    contexts: int = 256,
    group_size: int = 4,
    batch_size: int = 64,
    seed: int = 0,
    config: Mapping[str, object] | None = None,
    name: str = "evaluation",
    console: Console | None = None,
) -> dict:
    """Sample, measure, print, write output_dir/{name}.json and .html; returns the evaluation.

    models: generators by row, "base" among them. data: a held-out split. config: goes into the report.
    folders: generated images by row. Those for just the contexts of the other rows are rows like them; others stand on
    their own contexts, without a difference to the base, and their distances are to real images of their compounds.
    """
    if "base" not in models or "real" in models:
        raise ValueError(f"need a generator 'base' and none called 'real'; got {', '.join(models)}")
    clock, (scene, rows, twins) = Clock(), held_out(data, contexts, seed)
    real = data.images(rows)
    about = {"contexts": contexts, "group_size": group_size, "seed": seed}
    about |= {f"{row} draws with": str(model.sampling) for row, model in models.items()}
    given = {row: folder.on(scene) for row, folder in (folders or {}).items()}  # None: on contexts of their own
    alone = {row: folders[row].alone(data) for row, images in given.items() if images is None}
    given = {row: images for row, images in given.items() if images is not None}
    with tqdm(desc="evaluate", unit="image", leave=False) as bar:
        bar.total = 2 * contexts * (len(models) * group_size + 1) + sum(map(count, given.values()))
        bar.total += sum(count(images) + len(images) for images, _ in alone.values())
        with clock("sample"):
            samples = {k: sample_groups(model, scene, group_size, batch_size, bar) for k, model in models.items()}
        with clock("measure"):
            measure_on = partial(evaluate, rulers=rulers, seed=seed, batch_size=batch_size, progress=bar.update)
            evaluation = measure_on(
                samples | given | {"real": real.unsqueeze(1)},
                data.images(twins),
                scene,
                config=about | ({"images": list(folders)} if folders else {}) | dict(config or {}),
            )
            for row, (images, own) in alone.items():
                like = companions(own["perturbation"], data, torch.Generator().manual_seed(seed))
                found = measure_on({row: images}, data.images(like), own, baseline=row)
                evaluation["rows"] |= found["rows"]
    columns = {"control": scene["x0"]} | {row: images[:, 0] for row, images in (samples | given).items()}
    columns |= {"real": real}
    title = f"{' and '.join(row for row in models if row != 'base') or 'base'} on held-out cells"
    html = page(evaluation, gallery(columns, scene["moa"], data), title=title, phases=clock.seconds)
    save_evaluation(evaluation, Path(output_dir) / f"{name}.json")
    save_page(html, Path(output_dir) / f"{name}.html")
    for table in tables(evaluation):
        (console or Console()).print(table)
    return evaluation


def count(images: Tensor) -> int:
    """n G of images (n, G, C, H, W)."""
    return len(images) * images.shape[1]


def gallery(columns: Mapping[str, Tensor], moa: Tensor, data: CellData) -> Gallery:
    """The first context of each MoA, in all columns; moa: (n,) ids of the contexts."""
    moas = moa.unique().tolist()
    first = torch.tensor([int((moa == m).nonzero()[0]) for m in moas])
    pictures = {name: composite(images[first], data.channels) for name, images in columns.items()}
    return Gallery([data.moas[m] for m in moas], pictures)


def named(model: str) -> tuple[str, str]:
    """NAME=DIR; a DIR alone is called rl."""
    name, _, folder = model.rpartition("=")
    return name or "rl", folder


def held_out_cells(options: Cells, contexts: int, *, unseen: bool = False) -> tuple[CellData, int]:
    """The test split, and as many of these contexts as it has."""
    data = load_cells(options, "test", unseen=unseen)
    if not (pairs := pairs_of(data)):
        raise ValueError("the test split has no two treated images of one compound; --include-unseen may add some")
    return data, min(contexts, pairs)


def main(config: Config) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = {"base": config.base} | dict(map(named, config.model))
    images = {name: folder for name, equals, folder in (entry.rpartition("=") for entry in config.images)}
    if len(sources | images) != 1 + len(config.model) + len(config.images) or {"", "real"} & {*sources, *images}:
        raise ValueError(
            "need another NAME for each --model NAME=DIR and --images NAME=DIR, none of them base or real; "
            f"got {', '.join(config.model + config.images)}"
        )
    data, contexts = held_out_cells(config, config.contexts, unseen=config.unseen)
    folders = {name: ImageFolder.read(folder, data) for name, folder in images.items()}
    models = {name: CellFlux.from_pretrained(folder).to(device) for name, folder in sources.items()}
    check_generators(data, *models.values())
    rulers = make_rulers(
        data,
        **load_suite(config, device),
        judge=load_judge(config),
        inception=config.inception,
        device=device,
    )
    evaluate_run(
        models,
        data,
        config.output_dir,
        rulers=rulers,
        folders=folders,
        contexts=contexts,
        group_size=config.group_size,
        batch_size=config.batch_size,
        seed=config.seed,
        config={"preset": config.rewards, "unseen": config.unseen, "segmenter": config.segmenter} | sources | images,
        name="evaluation_unseen" if config.unseen else "evaluation",
    )


if __name__ == "__main__":
    main(CONFIG)
