"""Grids of the studies: which candidates answer which question."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from cellenv.data.synthetic import Split
from examples.studies.comparison_config import Candidate
from rewards.suite.spec import SUITE

# a study varies one option of these, the setting of DiffusionNFT that compare.py chose
START: Mapping[str, object] = {}
SHORT = 50_000  # NFE: 19 iterations
LONG = 208_000  # NFE: 80 iterations
TWO, THREE = (1, 2), (1, 2, 3)  # seeds; 0 chose the defaults


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every candidate with every seed."""

    candidates: tuple[Candidate, ...]
    seeds: tuple[int, ...]
    budget: int = SHORT  # NFE of a run

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.candidates) * len(self.seeds)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question and the runs that answer it."""

    question: str
    reduced: Grid
    full: Grid
    split: Split = "test"  # of the evaluation contexts; what chooses a default looks at validation
    is_matrix: bool = False  # the picture is a matrix of gains instead of learning curves


def vary(options: Mapping[str, tuple[object, ...]]) -> tuple[Candidate, ...]:
    """A candidate for each combination of values, named after them: "kl_weight=0.4"."""
    candidates = []
    for values in product(*options.values()):
        chosen = dict(zip(options, values, strict=True))
        name = ",".join(f"{option.rpartition('.')[2]}={value}" for option, value in chosen.items())
        candidates.append(Candidate(name=name, options={**START, **chosen}))
    return tuple(candidates)


def vary_decay(betas: tuple[float, ...], decays: Mapping[str, tuple[float, float]]) -> tuple[Candidate, ...]:
    """Every beta with every decay of the old weights, (slope, most)."""
    return tuple(
        Candidate(
            name=f"beta={beta},decay={name}",
            options={"loss.beta": beta, "rollout.decay_slope": slope, "rollout.decay_most": most},
        )
        for beta, (name, (slope, most)) in product(betas, decays.items())
    )


def only_reward(reward: str) -> tuple[str, ...]:
    """Reward terms that leave one reward, with weight 1."""
    return tuple(f"{spec.name}={1 if spec.name == reward else 0}" for spec in SUITE)


SINGLE = (
    *(Candidate(name=spec.name, options={**START, "reward.terms": only_reward(spec.name)}) for spec in SUITE),
    Candidate(name="combination", options=START),
)


def changes(options: Mapping[str, Mapping[str, object]]) -> tuple[Candidate, ...]:
    """The starting setting, and a candidate for each named change of it."""
    changed = (Candidate(name=name, options={**START, **change}) for name, change in options.items())
    return (Candidate(name="default", options=START), *changed)


LEVERS: Mapping[str, Mapping[str, object]] = {
    "beta-and-lag-as-published": {"loss.beta": 1.0, "rollout.decay_slope": 0.001, "rollout.decay_most": 0.5},
    "12-of-24": {"rollout.group_size": 24, "rollout.train_on": 12},
    "steady-rate": {"optim.cooldown": 0.0},
    "muon": {"optim.optimizer": "muon", "optim.learning_rate": 4e-3},
    "times-to-0.8": {"renoise.t_max": 0.8},
    "pull-in-velocities": {"loss.kl_weighting": "velocity"},
    "pull-in-end-points": {"loss.kl_weighting": "end-point"},
}
MORE_LEVERS: Mapping[str, Mapping[str, object]] = {
    "from-level-1": {"train_from_level": 1},
    "from-level-2": {"train_from_level": 2},
    "12-of-24,half-rate": {"rollout.group_size": 24, "rollout.train_on": 12, "optim.learning_rate": 5e-4},
    "kl-on-a-third": {"loss.kl_share": 1 / 3},
    "groups-of-6": {"rollout.group_size": 6},
    "groups-of-4": {"rollout.group_size": 4},
    "groups-of-8": {"rollout.group_size": 8},
    "muon,half-rate": {"optim.optimizer": "muon", "optim.learning_rate": 2e-3},
    "times-of-the-sampler": {"renoise.times": "rollout"},
    "stratified-times": {"renoise.stratified": True},
    "two-epochs": {"optim.epochs": 2},
    "pretraining-loss": {"loss.pretraining_weight": 0.1},
    "rate-3e-4": {"optim.learning_rate": 3e-4},
    "rate-3e-3": {"optim.learning_rate": 3e-3},
    "kl-0.2": {"loss.kl_weight": 0.2},
    "kl-0.8": {"loss.kl_weight": 0.8},
    "roundness-once": {"reward.terms": ("roundness=1",)},
}
OTHER_LOSSES = (Candidate(name="ram", algorithm="ram"), Candidate(name="flowawr", algorithm="flowawr"))
DECAYS = {"published": (0.001, 0.5), "default": (0.02, 0.8)}
COUPLINGS = ("independent", "group", "generating")

STUDIES: dict[str, Study] = {
    "levers": Study(
        question="Which change of the default learns more from as many network evaluations?",
        reduced=Grid(candidates=changes(LEVERS), seeds=TWO),
        full=Grid(candidates=changes({**LEVERS, **MORE_LEVERS}) + OTHER_LOSSES, seeds=TWO, budget=LONG),
        split="validation",
    ),
    "single": Study(
        question="Is a model that learns one reward best at it, and what becomes of the others?",
        reduced=Grid(candidates=SINGLE, seeds=TWO),
        full=Grid(candidates=SINGLE, seeds=THREE, budget=LONG),
        is_matrix=True,
    ),
    "signal": Study(
        question="Is the total normalised inside its groups, or each reward by itself before the sum?",
        reduced=Grid(candidates=vary({"loss.normalise": ("total", "rewards")}), seeds=TWO),
        full=Grid(
            candidates=vary({"loss.normalise": ("total", "rewards"), "rollout.decay_slope": (0.8, 0.02)}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "kl": Study(
        question="What does the pull to the base cost, and does a weak one favour morphology, a strong one MoA?",
        reduced=Grid(candidates=vary({"loss.kl_weight": (1e-4, 0.4, 10.0)}), seeds=TWO),
        full=Grid(
            candidates=vary({"loss.kl_weight": (0.0, 1e-4, 0.01, 0.1, 0.2, 0.4, 1.0, 10.0)}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "beta": Study(
        question="How do the width of the NFT loss and the lag of the old weights act together?",
        reduced=Grid(candidates=vary_decay((0.1, 1.0), DECAYS), seeds=TWO),
        full=Grid(
            candidates=vary_decay((0.1, 0.5, 1.0, 2.0), DECAYS | {"0.5": (0.5, 0.5), "0.8": (0.8, 0.8)}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "coupling": Study(
        question="Which source re-noises an image: another control, the same control, or the very source it came from?",
        reduced=Grid(candidates=vary({"renoise.coupling": COUPLINGS}), seeds=TWO),
        full=Grid(
            candidates=vary({"renoise.coupling": COUPLINGS, "renoise.times": ("uniform", "rollout")}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
    "group_size": Study(
        question="Of 144 images an iteration, are many contexts better, or many images of each?",
        reduced=Grid(candidates=vary({"rollout.group_size": (2, 12, 48)}), seeds=TWO),
        full=Grid(candidates=vary({"rollout.group_size": (2, 3, 4, 6, 8, 12, 24, 48)}), seeds=THREE, budget=LONG),
    ),
    "form": Study(
        question="Is the adaptive form of the published code better than the plain one of the paper?",
        reduced=Grid(candidates=vary({"loss.form": ("adaptive", "plain")}), seeds=TWO),
        full=Grid(
            candidates=vary({"loss.form": ("adaptive", "plain"), "optim.learning_rate": (1e-4, 3e-4, 1e-3)}),
            seeds=THREE,
            budget=LONG,
        ),
    ),
}
