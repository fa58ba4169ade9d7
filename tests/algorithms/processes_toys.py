"""What each process of a test does: every loop over images, on few and small ones."""

import json
import sys
from pathlib import Path

import torch
from tensordict import TensorDictBase

from algorithms import processes
from algorithms.config import EvalConfig, RewardConfig, SegmenterConfig
from algorithms.evaluation import comparison, generate
from algorithms.evaluation.best_of_n import BestOfNConfig
from algorithms.evaluation.comparison import Comparison, evaluate_models
from algorithms.evaluation.feature_distances import FeatureDistances
from algorithms.evaluation.generate import GenerateConfig
from algorithms.evaluation.periodic_eval import PeriodicEval
from algorithms.evaluation.score import ScoreConfig
from algorithms.evaluation.scoring import score_folder
from algorithms.evaluation.selection import compare_models, publish
from algorithms.launch import start_accelerator
from algorithms.recipes.fit import classifier_training, reference_fitting
from algorithms.recipes.fit.classifier import ClassifierConfig
from algorithms.recipes.fit.reference import ReferenceConfig
from cellenv.path import lift
from cellenv.streams import normal_like
from tests.algorithms.evaluation.evaluation_toys import BrightnessEvaluator, generator
from tests.algorithms.nft_toys import ToyCells

CONTEXTS = 10


class Discs(ToyCells):
    """A bright disc on dark noise, in all channels; its radius depends on the row."""

    size = (3, 32, 32)

    def images(self, rows):
        y, x = torch.meshgrid(*2 * [torch.arange(32.0) - 15.5], indexing="ij")
        blank = torch.empty(len(rows), *self.size)
        inside = (x**2 + y**2).expand_as(blank) < lift(4.0 + rows % 7, blank) ** 2
        return (1.2 * inside - 0.8 + 0.1 * normal_like(blank, rows)).clamp(-1, 1)


DISCS = Discs()


def tensors(value):
    """Every tensor in nested lists, dictionaries and TensorDicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | TensorDictBase):
        yield from (x for part in value.values() for x in tensors(part))
    elif isinstance(value, list | tuple):
        yield from (x for part in value for x in tensors(part))


def evaluations(folder: Path) -> dict:
    """Figures of `evaluate`, `best-of-n` and both evaluations along a training, and how many images were scored."""
    toy, models = BrightnessEvaluator(len(DISCS.moas)), {"base": generator(DISCS, 0.0), "rl": generator(DISCS, 0.1)}
    evaluator, options = toy.evaluator, Comparison(contexts=CONTEXTS, group_size=2, batch_size=3)
    config = BestOfNConfig(
        most=4, tables=(1, 4), batch_size=3, eval=EvalConfig(contexts=CONTEXTS), output_dir=Path("best-of-n")
    )
    found = {
        "evaluate": evaluate_models(models, DISCS, folder / "evaluate", evaluator=evaluator, options=options),
        "scored": sum(len(images) for images, _ in toy.scored),
        "best_of_n": compare_models(models, DISCS, evaluator, config),
        "periodic": vars(PeriodicEval.create(DISCS, evaluator, contexts=CONTEXTS)(models["rl"])),
    }
    networks = {"judge": lambda images: images.mean((2, 3))}
    distances = FeatureDistances.create(DISCS, networks, contexts=CONTEXTS, seed=0, device="cpu")
    return found | {"distances": distances(models["rl"])}


def commands() -> None:
    """`generate`, `score`, `fit reference` and `fit classifier` write their files."""
    cells = lambda *_, **__: DISCS  # noqa: E731
    comparison.build_cells = classifier_training.build_cells = reference_fitting.build_cells = cells
    classifier_training.CHUNK = 5
    images = GenerateConfig(contexts=4, group_size=2, batch_size=3, output_dir=Path("images"))
    generate.main(images, load=lambda name: generator(DISCS, 0.1))
    reward = RewardConfig(segmenter="classical")
    score_folder(ScoreConfig(folder=Path("../cells"), batch_size=3, reward=reward, output_dir=Path("score")))
    segmentation = SegmenterConfig(segmenter="classical")
    reference_fitting.fit_reference(
        ReferenceConfig(min_cells=2, batch_size=16, output=Path("reference.json"), segmentation=segmentation)
    )
    classifier_training.fit_classifier(ClassifierConfig(epochs=1, batch_size=16, output_dir=Path("classifier")))


def classifier_step() -> list[list[float]]:
    """The loss of a classifier, and of its parameters the sums of gradients, on three images and on one."""
    data, rows = DISCS, DISCS.treated[:3]
    model, _ = classifier_training.initial_classifier(ClassifierConfig(), data)
    steps = []
    for n in (3, 1):
        loss = classifier_training.backward(model, data.images(rows[:n]), classifier_training.moa_of(data, rows[:n]))
        steps.append([loss.item(), *(parameter.grad.abs().sum().item() for parameter in model.parameters())])
    return steps


def main() -> None:
    """Every rank writes its results, and of what rank the tensors were that it sent to the others."""
    accelerator = start_accelerator(threads=1)
    gather, dimensions = processes.gather_object, set()

    def noted(results):
        dimensions.update(x.ndim for x in tensors(results))
        return gather(results)

    processes.gather_object = noted
    result = evaluations(Path())
    publish(result["best_of_n"], BestOfNConfig(tables=(1, 4), output_dir=Path("best-of-n")))
    commands()
    result |= {"ranks": accelerator.num_processes, "dimensions": sorted(dimensions)}
    result["classifier_step"] = classifier_step()
    Path(f"rank-{accelerator.process_index}.json").write_text(json.dumps(result), encoding="utf-8")
    accelerator.end_training()


if __name__ == "__main__":
    sys.argv = ["cellfluxrl"]
    main()
