"""What all post-training scripts share: models, rewarded environment, loop, and the evaluation at the end."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from evaluate import evaluate_run, held_out_cells, make_rulers
from loading import check_generators, load_cells, load_judge, load_suite
from results import told
from settings import Settings
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import Compose, TransformedEnv
from torchrl.objectives import LossModule

from algorithms import controls, coupling
from algorithms.checkpoint import set_aside
from algorithms.evaluation import twin_rows
from algorithms.launch import start_accelerator
from algorithms.logs import flat, mean_seconds
from algorithms.lora import add_lora, merge_lora
from algorithms.losses.nft import old_decay
from algorithms.renoise import Renoise, total_reward
from algorithms.rollouts import Bandit, draw_groups, share
from algorithms.trainer import Algorithm, TrainConfig, train
from cellenv.data.cells import CellData
from cellenv.env import VirtualCellEnv
from cellenv.generator import GRIDS, CellFlux, GeneratorPolicy
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at
from rewards import WeightedSum, cellflux_rewards

ROWS = {"none": "rl", "zero": "zero-reward", "shuffled": "shuffled-reward", "flipped": "flipped-reward"}
ADAPTERS, PICTURES = 2**31 - 2, 2**31 - 3  # streams of the seed
FREE = (  # may change on resume
    *("output_dir", "resume", "iterations", "trackers", "save_every", "show_every", "threads"),
    *("contexts", "judge", "cache"),
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an algorithm is built from. theta, old and ref are equal, each of its own memory."""

    config: Settings
    accelerator: Accelerator
    data: CellData
    theta: CellFlux
    old: CellFlux
    ref: CellFlux
    weights: Mapping[str, float] | None = None  # of the rewards, by name; None: those of the suite

    @cached_property
    def suite(self) -> dict[str, Any]:
        """The arguments of `cellflux_rewards`: one segmenter and one classifier, however often they are asked for."""
        return load_suite(self.config, self.accelerator.device)

    def bandit(self, policy: TensorDictModuleBase | None = None) -> Bandit:
        """Contexts, images by the policy (the old weights), rewards."""
        config, rank, ranks = self.config, self.accelerator.process_index, self.accelerator.num_processes
        device = self.accelerator.device
        suite = cellflux_rewards(**self.suite).to(device)
        if self.weights is not None:
            suite = Compose(suite, WeightedSum(self.weights))
        return Bandit(
            env=TransformedEnv(VirtualCellEnv(self.data), suite),
            policy=GeneratorPolicy(self.old) if policy is None else policy,
            data=self.data,
            groups=share(config.groups, rank, ranks),
            group_size=config.group_size,
            seed=config.seed,
            chunk=config.chunk,
            device=device,
            autocast=self.accelerator.autocast,
        )

    def signal(self) -> Callable[[TensorDict, int], torch.Tensor]:
        """What is learned from: the total reward, or a control in its place."""
        return {
            "none": total_reward,
            "zero": controls.zero,
            "shuffled": partial(controls.shuffled, seed=self.config.seed),
            "flipped": controls.flipped,
        }[self.config.control]

    def on_renoised(
        self, loss: LossModule, prepare: Callable[[TensorDictBase, int], TensorDictBase] | None = None
    ) -> Algorithm:
        """A loss on what the old weights drew, re-noised; the config is a RenoiseSettings. prepare: of `renoise()`."""
        return Algorithm(
            loss=loss,
            collect=self.bandit(),
            prepare=self.renoise() if prepare is None else prepare,
            theta=self.theta,
            old=self.old,
            decay=partial(old_decay, slope=self.config.decay_slope, most=self.config.decay_most),
            constant=[self.ref],
        )

    def renoise(self) -> Renoise:
        """How a rollout becomes rows for a loss on re-noised images; the config is a RenoiseSettings."""
        config, old = self.config, self.old
        couplings = {
            "independent": partial(coupling.independent, data=self.data, noise_level=old.noise_level),
            "group": partial(coupling.group, noise_level=old.noise_level),
            "generating": coupling.generating,
        }
        times = {"uniform": coupling.uniform, "rollout": partial(coupling.on_grid, times=GRIDS[old.grid](old.steps))}
        return Renoise(
            coupling=couplings[config.coupling],
            times=times[config.times],
            times_per_sample=config.times_per_sample,
            noise_per=config.noise_per,
            signal=self.signal(),
            seed=config.seed,
            gather=self.accelerator.gather,
        )


def post_train(config: Settings, build: Callable[[Setup], Algorithm]) -> None:
    """Start Accelerate, train what `build` makes, save the model, evaluate it beside its base and real cells."""
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    accelerator.print(f"mixed precision: {accelerator.mixed_precision}")
    if config.groups % accelerator.num_processes:
        accelerator.print(
            f"{config.groups} groups become more, as many on each of {accelerator.num_processes} processes"
        )
    data, (test, most) = load_cells(config, "train"), held_out_cells(config, config.contexts)
    contexts = config.contexts if config.data is None else most
    twin_rows(test.perturbation[test.treated], contexts, rng_at(config.seed))  # too many are refused here
    theta, old, ref = three_models(config)
    check_generators(data, ref)
    setup = Setup(config=config, accelerator=accelerator, data=data, theta=theta, old=old, ref=ref)
    rulers = make_rulers(test, **setup.suite, judge=load_judge(config), device=accelerator.device)
    if not config.resume and accelerator.is_main_process and (moved := set_aside(config.output_dir)):
        print(f"{config.output_dir} held another run; it lies in {moved} now (--resume would go on with it)")
    accelerator.wait_for_everyone()
    accelerator.init_trackers("cellfluxrl", config=flat(asdict(config)))
    ema = train(
        accelerator,
        TrainConfig.of(config),
        build(setup),
        show=make_show(config, data, ref, theta),
        settings=told(config, FREE) | {"mixed_precision": accelerator.mixed_precision},
    )
    if accelerator.is_main_process:
        with ema.swapped(theta):
            trained = copy.deepcopy(theta)
        if config.lora_rank:
            merge_lora(trained.network)
        trained.save_pretrained(config.output_dir / "model", {"training": flat(asdict(config))})
        seconds = mean_seconds(config.output_dir / "log.jsonl")
        print("seconds an iteration: " + ", ".join(f"{name} {s:.2f}" for name, s in seconds.items()))
        evaluate_run(
            {"base": ref, ROWS[config.control]: trained},
            test,
            config.output_dir,
            rulers=rulers,
            contexts=contexts,
            config={"preset": config.rewards} | flat(asdict(config)),
        )
    accelerator.wait_for_everyone()
    accelerator.end_training()


def three_models(config: Settings) -> tuple[CellFlux, CellFlux, CellFlux]:
    """theta, old and ref: equal, of their own memory; what learns draws as the losses see it, without guidance."""
    ref = CellFlux.from_pretrained(config.generator)
    theta = copy.deepcopy(ref)
    theta.guidance = 0.0
    if config.lora_rank:
        rng = rng_at(config.seed, ADAPTERS)
        add_lora(theta.network, rng, rank=config.lora_rank, alpha=2.0 * config.lora_rank)
    return theta, copy.deepcopy(theta), ref


def make_show(config: Settings, data: CellData, ref: CellFlux, theta: CellFlux) -> Callable[[], np.ndarray]:
    """A picture of eight contexts: the control, the base's image and the present one, of the same noise."""
    contexts = draw_groups(data, range(8), 1, seed=config.seed, iteration=PICTURES)

    def draw(model: CellFlux) -> np.ndarray:
        device = next(model.parameters()).device
        td = contexts.to(device)
        return composite(model.sample(td["x0"], td["condition"], td["seed"])[0], data.channels)

    def show() -> np.ndarray:
        columns = [data.moas[m].split()[0] for m in contexts["moa"].tolist()]
        rows = [composite(contexts["x0"], data.channels), draw(ref), draw(theta)]
        return grid(rows, ["control", "before", "now"], columns)

    return show
