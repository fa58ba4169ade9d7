"""What `evaluate` and `best-of-n` compare: generators, and the held-out cells that all of them are measured on.

Light to import, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import UseAppendAction

from algorithms.config import DataConfig, EvalConfig, RewardConfig, check_models_of_data
from algorithms.config_checks import check_at_least
from algorithms.train_config import DistributedConfig

if TYPE_CHECKING:
    from algorithms.evaluation.image_folder import ImageFolder
    from algorithms.evaluation.measurement import Evaluator
    from cellenv.data.cells import CellData
    from cellenv.generator import CellFlux


TAKEN = ("base", "control", "real")  # what tables and pictures show beside the generators, which need other names


@dataclass(frozen=True, kw_only=True)
class ComparedConfig:
    """Generators and held-out cells. A command adds what it does with them."""

    model: Annotated[tuple[str, ...], UseAppendAction] = ()  # NAME=DIR of a generator; may be repeated
    base: str = "embedded"  # generator that the models started from: DIR, or the name of a shipped one
    output_dir: Path = Path("runs")
    unseen: bool = False  # the compounds that no generator was trained on
    batch_size: int = 64  # images at once
    seed: int = 0  # of contexts, noise and bootstrap

    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    eval: EvalConfig = EvalConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        check_at_least(2, contexts=self.eval.contexts)  # distances need two
        check_at_least(1, batch_size=self.batch_size)
        check_models_of_data(self.data, self.reward, self.eval)


class Compared(NamedTuple):
    """What a config names, loaded and checked to fit together."""

    models: dict[str, CellFlux]  # by row, "base" first
    folders: dict[str, ImageFolder]  # generated images, by row
    data: CellData
    contexts: int  # as many as the config asks for, or the cells allow
    evaluator: Evaluator


def named_folders(entries: Sequence[str], default: str = "") -> dict[str, str]:
    """{NAME: DIR} of NAME=DIR entries; a DIR alone gets the default name.

    Raises:
        ValueError: a name is missing, stands twice, or is one of TAKEN.
    """
    found = {}
    for entry in entries:
        name, equals, folder = entry.partition("=")
        if not equals or "/" in name:  # a folder alone, which may have "=" in it
            name, folder = default, entry
        found[name] = folder
    if len(found) < len(entries) or {"", *TAKEN} & found.keys():
        raise ValueError(f"need another NAME for each NAME=DIR, none of {', '.join(TAKEN)}; got {', '.join(entries)}")
    return found


def load_generators(base: str, models: Sequence[str], samplers: Sequence[str] = ()) -> dict[str, CellFlux]:
    """Generators by row: "base", those of NAME=DIR entries, and their rows by other samplers.

    Raises:
        ValueError: an entry is invalid; see `named_folders` and `add_sampler_rows`.
    """
    from algorithms.evaluation.samplers import add_sampler_rows
    from cellenv.generator import CellFlux

    sources = {"base": base} | named_folders(models, "rl")
    generators = {name: CellFlux.from_pretrained(folder) for name, folder in sources.items()}
    return add_sampler_rows(generators, samplers)


def load_compared(
    config: ComparedConfig,
    *,
    samplers: Sequence[str] = (),
    images: Mapping[str, str] | None = None,
    inception: Path | None = None,
) -> Compared:
    """Start the processes, check the cells, and load what is compared; images are read before any model is loaded.

    samplers: see `load_generators`. images: folders of generated images, by row. inception: see `build_evaluator`.

    Raises:
        ValueError: something does not fit the cells, or these cannot be used.
    """
    from algorithms.build import build_judge, build_rewards, check_generators
    from algorithms.evaluation.comparison import held_out_cells
    from algorithms.evaluation.evaluator import build_evaluator
    from algorithms.evaluation.image_folder import ImageFolder
    from algorithms.inspection.cached import check_data
    from algorithms.launch import start_processes

    device = start_processes(timeout=config.distributed.timeout).device
    named_folders(config.model, "rl")
    check_data(config.data, unseen=config.unseen, splits=("test",))
    data, contexts = held_out_cells(config.data, config.eval.contexts, unseen=config.unseen)
    folders = {name: ImageFolder.read(folder, data) for name, folder in (images or {}).items()}
    generators = load_generators(config.base, config.model, samplers)
    check_generators(data, *generators.values())
    models = {name: model.to(device) for name, model in generators.items()}
    rewards, judge = build_rewards(config.reward, device, data), build_judge(config.eval, data)
    evaluator = build_evaluator(data, rewards, judge=judge, inception=inception, device=device)
    return Compared(models, folders, data, contexts, evaluator)
