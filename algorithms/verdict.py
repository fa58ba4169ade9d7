"""Did the training keep its promises? Yes or no to each, from an evaluation alone."""

from collections.abc import Mapping
from typing import NamedTuple

REWARDS = ("moa", "containment", "roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count")
CONTROLS = ("zero-reward", "shuffled-reward", "flipped-reward")  # rows that were trained to show no gain
DISTANCE_RATIO = 1.1  # of the baseline's Frechet and kernel distance, at most
DIVERSITY_RATIO = 0.8  # of the baseline's diversity inside a group, at least
CONFIRMED_SHARE = 0.6  # of a reward's gain that the judge must see too, at least
GAP_SHARE = 0.5  # of the way from the baseline's total to that of real images, at least


class Check(NamedTuple):
    """A promise, whether it is kept (None: the question does not arise), and the figures behind the answer."""

    promise: str
    kept: bool | None
    figures: str


def verdict(evaluation: Mapping, row: str = "rl", baseline: str = "base") -> list[Check]:
    """Nine promises: better where it is rewarded, worse nowhere, and not by deceit or collapse."""
    new, old, gain = evaluation["rows"][row], evaluation["rows"][baseline], evaluation["paired"][f"{row}-{baseline}"]
    low, high = gain["total"]["ci"]
    worse = [name for name in REWARDS if name in gain and (gain[name]["ci"][1] or 0) < 0]
    checks = [
        Check(
            "Total reward rises, interval above 0",
            _maybe(low, lambda: low > 0),
            f"{_signed(gain['total']['mean'])} {_span(low, high)}",
        ),
        Check("No reward falls significantly", not worse, ", ".join(worse) or "none"),
        _ratio("Fréchet distance", new["frechet"], old["frechet"], at_most=DISTANCE_RATIO),
        _ratio("Kernel distance", new["kernel"], old["kernel"], at_most=DISTANCE_RATIO),
        _ratio("Diversity", new["diversity"], old["diversity"], at_least=DIVERSITY_RATIO),
        Check(
            "Measures come closer to real cells (mean W1)",
            _maybe(gain["w1_mean"], lambda: gain["w1_mean"] < 0),
            f"{_number(old['w1_mean'])} to {_number(new['w1_mean'])} σ",
        ),
        _confirmation("moa", gain),
        _confirmation("containment", gain),
    ]
    return checks + ([_gap(gain, evaluation["rows"], baseline)] if "real" in evaluation["rows"] else [])


def _ratio(promise: str, new: float | None, old: float | None, *, at_most: float = 0, at_least: float = 0) -> Check:
    """new / old within its bound; an old value of 0 or less (a kernel distance can be) asks for no increase."""
    promise += f" at most {at_most:g} × the base's" if at_most else f" at least {at_least:g} × the base's"
    if new is None or old is None:
        return Check(promise, None, "undefined")
    if old <= 0:
        return Check(promise, new <= old if at_most else new >= old, f"{_number(old)} to {_number(new)}")
    return Check(promise, new <= at_most * old if at_most else new >= at_least * old, f"{new / old:.2f} ×")


def _confirmation(name: str, gain: Mapping) -> Check:
    """Of what the reward gained, the share that the held-out judge sees."""
    reward, judge = (gain.get(key, {"mean": None})["mean"] for key in (name, f"judge_{name}"))
    promise = f"Judge sees {CONFIRMED_SHARE:.0%} of the gain in {'MoA' if name == 'moa' else name}"
    if reward is None or judge is None or reward <= 0:
        return Check(promise, None, "no gain to confirm")
    return Check(promise, judge >= CONFIRMED_SHARE * reward, f"{_signed(judge)} of {_signed(reward)}")


def _gap(gain: Mapping, rows: Mapping, baseline: str) -> Check:
    """The share of the gap in total between baseline and real images that was closed."""
    promise, gap = (
        "Half of the gap in total to real is closed",
        rows["real"]["total"]["mean"] - rows[baseline]["total"]["mean"],
    )
    if gap <= 0:
        return Check(promise, None, "the baseline's total is not below that of real cells")
    return Check(
        promise, gain["total"]["mean"] >= GAP_SHARE * gap, f"{gain['total']['mean'] / gap:.0%}".replace("-", "−")
    )


def _maybe(value: float | None, question) -> bool | None:
    return None if value is None else bool(question())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _span(low: float | None, high: float | None) -> str:
    return f"({_signed(low)}, {_signed(high)})"
