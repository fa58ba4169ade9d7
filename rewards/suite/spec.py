"""Rewards as data: the suite of the paper, and rewards from a user's functions.

To add a reward to the suite, write its function and its `ImageReward` in a file of this folder, and add a
line to `SUITE`. Nothing else names the rewards.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from tensordict import NestedKey
from torch import Tensor, nn

from rewards.reference import Reference
from rewards.shaping import Shaping, clipped_square
from rewards.suite.containment import NucleusInCytoplasm
from rewards.suite.count import CellCount, NucleusCount
from rewards.suite.moa import MoAProbability
from rewards.suite.roundness import Roundness
from rewards.suite.size import CellSize, NucleusSize
from rewards.transforms import CELLS, NUCLEI, ImageReward


@dataclass(frozen=True, kw_only=True)
class RewardParts:
    """What rewards are built from, apart from masks. None: not loaded, because no reward needs it."""

    classifier: nn.Module | None = None  # images -> logits of the MoAs
    reference: Reference | None = None  # statistics of real images
    shaping: Shaping = clipped_square  # from a z-score to a reward


@dataclass(frozen=True, kw_only=True)
class RewardSpec:
    """A reward: how to build it, how to weight it, how to report it."""

    name: str  # key under "rewards"
    label: str  # for tables
    weight: float  # in the weighted sum, the reported total
    unit: str  # of the reward; reports group rows by it
    build: Callable[[RewardParts], ImageReward]
    measure: str | None = None  # that is compared with real cells; evaluations report its distance to them
    emphasis: float | None = None  # relative weight in what is learned from, each reward normalised; None: `weight`
    has_judge: bool = False  # evaluations also compute it with held-out models, see `judge_rewards`
    needs: tuple[Literal["classifier", "reference"], ...] = ()  # parts that `build` uses
    conditioned_on: Literal["moa", "compound", "nothing"] = "nothing"  # what of a context the reward looks at

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"reward {self.name!r} needs a finite weight, got {self.weight}")

    @property
    def signal_weight(self) -> float:
        """Weight of the normalised reward in the learning signal (`algorithms.advantages.normalised_rewards`)."""
        return self.weight if self.emphasis is None else self.emphasis


def _inside(parts: RewardParts) -> ImageReward:
    return NucleusInCytoplasm()


def _by_classifier(reward: Callable[[nn.Module], ImageReward], parts: RewardParts) -> ImageReward:
    if parts.classifier is None:
        raise ValueError(f"{reward.__name__} needs a classifier, got None")
    return reward(parts.classifier)


def _by_reference(reward: Callable[[Reference, Shaping], ImageReward], parts: RewardParts) -> ImageReward:
    if parts.reference is None:
        raise ValueError(f"{reward.__name__} needs reference statistics, got None")
    return reward(parts.reference, parts.shaping)


def z_score_reward(
    name: str,
    reward: Callable[[Reference, Shaping], ImageReward],
    *,
    measure: str,
    emphasis: float | None = None,
) -> RewardSpec:
    """A reward for one measure, by its z-score among real images of the MoA (see `condition_on`); weight 1."""
    return RewardSpec(
        name=name,
        label=name.replace("_", " "),
        weight=1.0,
        unit="z-score reward",
        build=partial(_by_reference, reward),
        measure=measure,
        emphasis=emphasis,
        needs=("reference",),
        conditioned_on="moa",
    )


# Rewards and weights of CellFluxRL, arXiv:2603.21743. The emphasis is ours: with each reward normalised, equal ones
# give each of the seven a seventh of the signal. MoA and roundness, in which the base is furthest from real cells, get
# twice that of containment and cell count; the sizes and the nucleus count, in which it is as good as real, get half.
SUITE: tuple[RewardSpec, ...] = (
    RewardSpec(
        name="moa",
        label="MoA",
        weight=5.0,
        emphasis=2.0,
        unit="probability",
        build=partial(_by_classifier, MoAProbability),
        has_judge=True,
        needs=("classifier",),
        conditioned_on="moa",
    ),
    RewardSpec(
        name="containment", label="containment", weight=2.0, emphasis=1.0, unit="share", build=_inside, has_judge=True
    ),
    z_score_reward("roundness", Roundness, measure="roundness", emphasis=2.0),
    z_score_reward("nucleus_size", NucleusSize, measure="nucleus_area_max", emphasis=0.5),
    z_score_reward("cell_size", CellSize, measure="cell_area_max", emphasis=0.5),
    z_score_reward("nucleus_count", NucleusCount, measure="nucleus_count", emphasis=0.5),
    z_score_reward("cell_count", CellCount, measure="cell_count"),
)
WEIGHTS = {spec.name: spec.weight for spec in SUITE}

# Names of other figures of an evaluation.
RESERVED = ("total", "reward", "frechet", "kernel", "diversity", "moa_accuracy", "undefined", "n_contexts", "nfe")
RESERVED_PREFIXES = ("judge_", "w1_", "frechet_", "kernel_", "diversity_")
INPUTS: dict[str, NestedKey] = {
    **{"images": "action", "nuclei": NUCLEI, "cells": CELLS},
    **{"moa": "moa", "compound": "perturbation", "x0": "x0"},
}


def custom_reward(function: Callable[..., Tensor], *, name: str | None = None, weight: float = 1.0) -> RewardSpec:
    """A reward from a user's function or network, for `cellflux_rewards(extra=[...])`.

    Args:
        function: returns one number per image, (B,), higher is better; nan where an image cannot be scored.
            The names of its parameters choose its inputs; any other parameter needs a default.
                images          (B, C, H, W) in [-1, 1], generated; channels are those of the data
                nuclei, cells   (B, H, W) int32, labels of the objects in images; 0 is background
                moa             (B,) int64, ids of the mechanisms of action
                compound        (B,) int64, ids of the compounds
                x0              (B, C, H, W) in [-1, 1], control images that generation started from
            An nn.Module is frozen, and moves with the rewards to another device.
        name: of the reward; None: that of the function.
        weight: in the weighted sum.

    Returns:
        The reward, under ("rewards", name).

    Raises:
        ValueError: function is not callable, has no name, takes none of the inputs, or not by name, or needs
            something else.

    Example:
        >>> def sharpness(images):
        ...     return images.diff(dim=-1).abs().mean((1, 2, 3))
        >>> spec = custom_reward(sharpness, weight=0.5)
        >>> spec.name, spec.weight
        ('sharpness', 0.5)
    """
    name = getattr(function, "__name__", "") if name is None else name
    if not callable(function):
        raise ValueError(f"reward {name!r} needs a function, got a {type(function).__name__}")
    if not name.isidentifier():
        raise ValueError(f"a reward needs a name such as 'sharpness', got {name!r}: give name=")
    if name in RESERVED or name.startswith(RESERVED_PREFIXES):
        raise ValueError(f"the name {name!r} is that of another figure of an evaluation; give the reward another one")
    inputs = _input_names(function, name)
    return RewardSpec(
        name=name,
        label=name.replace("_", " "),
        weight=weight,
        unit="custom reward",
        build=partial(_build_custom, name, function, inputs),
        conditioned_on="moa" if "moa" in inputs else "compound" if "compound" in inputs else "nothing",
    )


def condition_on(specs: Sequence[RewardSpec], reference: Reference) -> tuple[RewardSpec, ...]:
    """The specs, those with a reference conditioned as it is: on the MoA, the compound, or nothing for controls."""
    conditioned_on: Literal["moa", "compound", "nothing"] = "nothing" if reference.by == "controls" else reference.by
    return tuple(replace(x, conditioned_on=conditioned_on) if "reference" in x.needs else x for x in specs)


def without_moa(specs: Sequence[RewardSpec], asked: Sequence[str] = ()) -> tuple[RewardSpec, ...]:
    """The rewards of images whose mechanism of action (MoA) is unknown: those that are not conditioned on it.

    asked: names of rewards that must be among them.

    Raises:
        ValueError: one of these is conditioned on the MoA, all are, or those with a reference are.
    """
    lost = [spec for spec in specs if spec.conditioned_on == "moa"]
    if refused := [spec.name for spec in lost if spec.name in asked]:
        raise ValueError(f"these cells have no mechanisms of action, on which {', '.join(refused)} is conditioned")
    if by_reference := [spec.name for spec in lost if "reference" in spec.needs]:
        raise ValueError(
            f"these cells have no mechanisms of action, by which the reference of {', '.join(by_reference)} is fitted:"
            " fit one by compounds or controls (cellfluxrl fit reference --by compound)"
        )
    if len(lost) == len(specs):
        raise ValueError("these cells have no mechanisms of action, and no other reward is left")
    return tuple(spec for spec in specs if spec not in lost)


def _input_names(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """The parameters of a function that are inputs of rewards, in order."""
    try:
        signature = inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except (TypeError, ValueError) as error:  # some built-in functions have none
        raise ValueError(f"reward {name!r}: {error}; wrap it in a function of {', '.join(INPUTS)}") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.kind not in variadic]
    unknown = [p.name for p in parameters if p.name not in INPUTS and p.default is inspect.Parameter.empty]
    names = tuple(p.name for p in parameters if p.name in INPUTS)
    if unknown or not names:
        came = f"got {', '.join(unknown)}" if unknown else "there is none of these"
        raise ValueError(f"reward {name!r}: its parameters may be {', '.join(INPUTS)}, others need a default; {came}")
    if unnamed := [p.name for p in parameters if p.name in INPUTS and p.kind is inspect.Parameter.POSITIONAL_ONLY]:
        raise ValueError(
            f"reward {name!r}: inputs are given by name, but {', '.join(unnamed)} can only be given by position:"
            " remove the / from its parameters, or wrap it in a function without one"
        )
    return names


def _build_custom(name: str, function: Callable[..., Tensor], inputs: Sequence[str], parts: RewardParts) -> ImageReward:
    reward = ImageReward(name, partial(_call_by_name, function, inputs), [INPUTS[key] for key in inputs])
    if isinstance(function, nn.Module):
        reward.network = function.requires_grad_(False).eval()  # registered, so that it moves with the reward
    return reward


def _call_by_name(function: Callable[..., Tensor], names: Sequence[str], *values: Tensor) -> Tensor:
    return function(**dict(zip(names, values, strict=True)))
