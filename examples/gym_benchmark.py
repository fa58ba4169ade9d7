"""Baselines of the Gymnasium benchmark: learning curves over seeds, and the leaderboard of docs/benchmark.md.

    pip install 'cellfluxrl[benchmark]'
    python examples/gym_benchmark.py                     # Select and Steer, five seeds
    python examples/gym_benchmark.py --preset smoke      # a few steps of everything

All agents learn from one stock of training contexts, drawn once, and are scored on the fixed contexts of the test
split: 0 is the untouched generator, 1 the oracle. Intervals (95 %) resample contexts and seeds. Writes leaderboard.md,
leaderboard.csv, curves.csv and curves.png anew after every run. Started again, it takes the runs that are finished from
DIR/runs; processes with other --seeds may share a DIR, and a last call with all of them makes the table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    tasks: tuple[Literal["Select", "Steer"], ...] = ("Select", "Steer")
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    output_dir: Path = Path("runs/gym")
    steps: int = 20_000  # of each learning agent
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    stock: int = 2000  # training contexts, shared by all agents
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of images to learn from; auto: bf16 if the hardware has it
    contexts: int = 1000  # that agents are scored on
    points: int = 10  # of a learning curve
    curve_contexts: int = 200  # of a point; the last one has all
    constants: int = 64  # actions among which the best constant is sought
    constant_contexts: int = 64  # training contexts that each is tried on


PRESETS = {
    "default": Config(),
    "smoke": Config(
        output_dir=Path("runs/gym-smoke"),
        steps=64,
        seeds=(0, 1),
        stock=16,
        contexts=12,
        points=2,
        curve_contexts=6,
        constants=3,
        constant_contexts=4,
    ),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from charts import finish
from gym_agents import ENVS, LEARNERS, RULES, Adapter, act_of, statistics
from gym_stock import SelectStock, Stock
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from matplotlib.figure import Figure
from numpy.typing import NDArray
from results import keep, kept, told, write_csv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from tensordict import TensorDict
from tqdm import tqdm

from algorithms.files import write_whole
from algorithms.launch import multiplies_bf16
from algorithms.statistics import Interval, resamples
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.gym import Scale, Select, Steer, TaskVectorEnv, World
from cellenv.gym.score import BATCH, fixed_contexts, play
from cellenv.streams import rng_at

TASKS = {"Select": (Select, SelectStock), "Steer": (Steer, Stock)}
COLOURS = ("#d1495b", "#3d5a9e")
FREE = ("tasks", "output_dir", "seeds", "generator")  # what does not decide a run: the scale knows the generator


@dataclass(frozen=True)
class Run:
    """One agent with one seed: its reward in each context, (n,), and its learning curve, (steps, score) each."""

    task: str
    agent: str
    seed: int
    rewards: NDArray[np.float64]
    curve: tuple[tuple[int, float], ...] = ()

    def content(self) -> dict:
        """For JSON."""
        return {"rewards": self.rewards.tolist(), "curve": self.curve}


def interval(rewards: NDArray[np.float64], scale: Scale) -> Interval:
    """The score of rewards (S, n) of S seeds, and where it lies when contexts and seeds are drawn anew."""
    rng = np.random.default_rng(0)
    untouched, oracle = np.asarray(scale.untouched), np.asarray(scale.oracle)
    contexts = resamples(rewards.shape[1], rng) / rewards.shape[1]  # (K, n)
    seeds = resamples(len(rewards), rng) / len(rewards)  # (K, S)
    earned = (contexts @ rewards.T * seeds).sum(1)  # (K,)
    scores = (earned - contexts @ untouched) / (contexts @ (oracle - untouched))
    return Interval(float(scale.score(rewards).mean()), *(float(q) for q in np.quantile(scores, [0.025, 0.975])))


def learn(name: str, train: Stock, test: Stock, scale: Scale, seed: int, config: Config) -> Run:
    """Train an agent of LEARNERS on the stock, and score it on the way and at the end.

    What it gets are rewards in units of what random actions earn: less their mean, divided by their std.
    """
    usual = random_rewards(train, train.scenes[: config.constant_contexts], seed)
    env = Adapter(TaskVectorEnv(ENVS, train), usual.mean(), usual.std())
    model = LEARNERS[train.kind][name](env, seed, statistics(train.seen))
    early, points = scale.head(config.curve_contexts), np.linspace(0, config.steps, config.points + 1)[1:-1]
    curve, left = [(0, scored(model, test, early))], list(points)

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            bar.update(self.num_timesteps - bar.n)
            if left and self.num_timesteps >= left[0]:
                left.pop(0)
                curve.append((self.num_timesteps, scored(model, test, early)))
            return True

    with tqdm(total=config.steps, desc=f"{train.kind}, {name}, seed {seed}", unit="step", leave=False) as bar:
        model.learn(config.steps, callback=Watch())
    rewards = play(test, lambda seen: act_of(model, seen), test.scenes)
    curve.append((model.num_timesteps, float(scale.score(rewards))))
    return Run(train.kind, name, seed, rewards, tuple(curve))


def scored(model: BaseAlgorithm, test: Stock, scale: Scale) -> float:
    """The score in the first contexts, as many as the scale has."""
    scenes = test.scenes[: len(scale.untouched)]
    return float(scale.score(play(test, lambda seen: act_of(model, seen), scenes)))


def best_constant(train: Stock, test: Stock, config: Config) -> Run:
    """The action that earns most when taken in every one of some training contexts; the untouched one is tried too."""
    space, scenes = train.action_space, train.scenes[: config.constant_contexts]
    if isinstance(space, spaces.Discrete):
        actions = np.arange(space.n)
    else:
        rng = np.random.default_rng(0)
        actions = rng.uniform(space.low, space.high, (config.constants, *space.shape)).astype(np.float32)
        actions[0] = 0

    def always(action: np.ndarray, stock: Stock, scenes: TensorDict) -> NDArray[np.float64]:
        return play(stock, lambda seen: np.stack([action] * len(seen["condition"])), scenes)

    means = [always(action, train, scenes).mean() for action in tqdm(actions, desc="constants", leave=False)]
    return Run(train.kind, "best constant", 0, always(actions[int(np.argmax(means))], test, test.scenes))


def random_rewards(stock: Stock, scenes: TensorDict, seed: int) -> NDArray[np.float64]:
    """The rewards of any action, as likely as any other."""
    space = batch_space(stock.action_space, len(scenes))
    space.seed(seed)
    actions = iter(np.array_split(space.sample(), np.arange(BATCH, len(scenes), BATCH)))
    return play(stock, lambda seen: next(actions), scenes)


def runs_of(train: Stock, test: Stock, scale: Scale, config: Config) -> Iterator[Run]:
    """Every baseline on one task; what an earlier call finished is read."""
    task = test.kind
    settings = told(config, FREE) | {"scale": str(scale.fingerprint)}

    def run(agent: str, seed: int, make: Callable[[], Run]) -> Run:
        file = config.output_dir / "runs" / f"{task}-{agent}-{seed}.json"
        if (known := kept(file, settings)) is None:
            keep(file, settings, known := make().content())
        return Run(task, agent, seed, np.asarray(known["rewards"]), tuple(map(tuple, known["curve"])))

    yield Run(task, "oracle", 0, np.asarray(scale.oracle))
    yield run("best constant", 0, partial(best_constant, train, test, config))
    for name, rule in RULES[task].items():
        yield run(name, 0, lambda name=name, rule=rule: Run(task, name, 0, play(test, rule, test.scenes)))
    for seed in config.seeds:
        yield run("random", seed, lambda seed=seed: Run(task, "random", seed, random_rewards(test, test.scenes, seed)))
        for name in LEARNERS[task]:
            yield run(name, seed, partial(learn, name, train, test, scale, seed, config))


def leaderboard(runs: Sequence[Run], scales: Mapping[str, Scale]) -> list[dict[str, str | int | float]]:
    """A row for each agent on each task, best first."""
    rows = []
    for task, agent in dict.fromkeys((run.task, run.agent) for run in runs):
        rewards = np.stack([run.rewards for run in runs if (run.task, run.agent) == (task, agent)])  # (S, n)
        score, low, high = interval(rewards, scales[task])
        row = {"task": task, "agent": agent, "score": score, "low": low, "high": high}
        rows.append(row | {"reward": float(rewards.mean()), "seeds": len(rewards), "contexts": rewards.shape[1]})
    return sorted(rows, key=lambda row: (row["task"], -row["score"]))


def markdown(rows: Sequence[Mapping]) -> str:
    """The table of docs/benchmark.md."""
    lines = ["| task | agent | score | 95 % interval | mean reward | seeds |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = f"{row['score']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {row['reward']:.3f} | {row['seeds']}"
        lines.append(f"| {row['task']} | {row['agent']} | {cells} |")
    return "\n".join(lines) + "\n"


def curve_rows(runs: Sequence[Run]) -> list[dict[str, str | int | float]]:
    """A row for each point of each learning curve."""
    return [
        {"task": run.task, "agent": run.agent, "seed": run.seed, "steps": steps, "score": score}
        for run in runs
        for steps, score in run.curve
    ]


def plot(runs: Sequence[Run], rows: Sequence[Mapping]) -> bytes:
    """PNG: a panel for each task, the curves of all seeds, and the best constant as a band."""
    tasks = list(dict.fromkeys(run.task for run in runs))
    figure = Figure(figsize=(5.2 * len(tasks), 3.8), dpi=150, layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for agent, colour in zip(LEARNERS[task], COLOURS, strict=True):
            for i, run in enumerate(run for run in runs if (run.task, run.agent) == (task, agent)):
                label = agent if i == 0 else None
                axes.plot(*zip(*run.curve, strict=True), color=colour, linewidth=1, label=label)
        for row in (row for row in rows if (row["task"], row["agent"]) == (task, "best constant")):
            axes.axhspan(row["low"], row["high"], color="#6b7280", alpha=0.25, linewidth=0, label="best constant")
        axes.axhline(1, color="black", linestyle=":", linewidth=1, label="oracle")
        axes.set(title=task, xlabel="environment steps", ylabel="score")
        axes.legend(frameon=False)
    return finish(figure, figure.axes)


def write(runs: Sequence[Run], scales: Mapping[str, Scale], folder: Path) -> str:
    """All files of the benchmark from the runs so far; returns the leaderboard as text."""
    rows = leaderboard(runs, scales)
    board = markdown(rows)
    write_whole(folder / "leaderboard.md", board.encode())
    write_csv(folder / "leaderboard.csv", rows)
    if points := curve_rows(runs):
        write_csv(folder / "curves.csv", points)
        write_whole(folder / "curves.png", plot(runs, rows))
    return board


def scale_of(test: Stock, folder: Path) -> Scale:
    """The stored scale; where that is of another generator, of other contexts or absent, a new one in the folder."""
    try:
        return Scale.load(test, test.scenes)
    except ValueError as error:
        print(error, "\nmeasuring it now")
    scale = Scale.fit(test, test.scenes)
    scale.save(folder / "scales.json")
    return scale


def benchmark(worlds: Mapping[str, World], config: Config) -> str:
    """Run everything; agents learn in the world "train" and are scored in "test"."""
    runs, scales, board = [], {}, ""
    training = worlds["train"].data.draw_contexts(config.stock, rng_at(config.stock))
    fixed = fixed_contexts(worlds["test"].data, config.contexts)
    for name in config.tasks:
        kind, stock = TASKS[name]
        train = stock(kind(worlds["train"], observation="features"), training)
        test = stock(kind(worlds["test"], observation="features"), fixed)
        scales[name] = scale_of(test, config.output_dir)
        for run in runs_of(train, test, scales[name], config):
            runs.append(run)
            board = write(runs, scales, config.output_dir)
    return board


def main(config: Config) -> None:
    generator = CellFlux.from_pretrained(config.generator)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16() else "fp32"
    worlds = {
        "train": World(generator, SyntheticCells("train"), precision=precision),
        "test": World(generator, SyntheticCells("test")),
    }
    print(benchmark(worlds, config))


if __name__ == "__main__":
    main(CONFIG)
