"""Acceptance checks of a training, from an evaluation alone; among them reward hacking and mode collapse."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from algorithms.evaluation.gap import CONFIRMED_SHARE
from algorithms.evaluation.headline import percent_interval
from algorithms.evaluation.statistics import Figures, Interval

CONTROLS = ("zero-reward", "shuffled-reward", "flipped-reward")  # rows that were trained to show no gain
DISTANCE_RATIO = 1.1  # of the baseline's Frechet and kernel distance, at most
DIVERSITY_RATIO = 0.8  # of the baseline's diversity inside a group, at least
GAP_SHARE = 0.5  # of the gap to real images, capped at real in each reward, at least


class Check(NamedTuple):
    """A criterion, whether it is met (None: it does not apply), and the figures behind the answer."""

    criterion: str
    passed: bool | None
    figures: str


def verdict(name: str, difference: Figures, rewards: Sequence[Figures]) -> int:
    """+1 if the interval of a paired difference says better, -1 if worse, 0 if neither.

    More is better, but less of a reward of negative weight, its judge and its judge's margin. rewards: as
    evaluation.json describes them.
    """
    turned = [reward["name"] for reward in rewards if reward["weight"] < 0]
    less = {prefix + reward for reward in turned for prefix in ("", "judge_", "judge_margin_")}
    return Interval.of(difference).sign * (-1 if name in less else 1)


def acceptance_checks(evaluation: Figures, row: str = "rl", baseline: str = "base") -> list[Check]:
    """All checks of a row against its baseline: rewards, distances, diversity, judges and the gap to real images."""
    new, old = evaluation["rows"][row], evaluation["rows"][baseline]
    pair, rewards = f"{row}-{baseline}", evaluation["rewards"]
    gain = evaluation["paired"][pair]
    low, high = gain["total"]["ci"]
    worse = [r["label"] for r in rewards if r["name"] in gain and verdict(r["name"], gain[r["name"]], rewards) < 0]
    checks = [
        Check(
            "Total reward rises, interval above 0",
            _if_defined(low, lambda: low > 0),
            f"{_signed(gain['total']['mean'])} {_span(low, high)}",
        ),
        Check("No reward falls significantly", not worse, ", ".join(worse) or "none"),
        _ratio("Fréchet distance", new.get("frechet"), old.get("frechet"), at_most=DISTANCE_RATIO),
        _ratio("Kernel distance", new.get("kernel"), old.get("kernel"), at_most=DISTANCE_RATIO),
        _ratio("Diversity", new.get("diversity"), old.get("diversity"), at_least=DIVERSITY_RATIO),
    ]
    if "w1_mean" in gain:
        closer = _if_defined(gain["w1_mean"], lambda: gain["w1_mean"] < 0)
        figures = f"{_number(old['w1_mean'])} to {_number(new['w1_mean'])} σ"
        checks.append(Check("Measures come closer to real cells (mean W1)", closer, figures))
    checks += [_confirmed_by_judge(reward, gain) for reward in rewards if reward["judge"]]
    return checks + ([_gap_closed(evaluation["gap"][pair]["share"])] if "gap" in evaluation else [])


def _ratio(name: str, new: float | None, old: float | None, *, at_most: float = 0, at_least: float = 0) -> Check:
    """new / old within its bound; an old value of 0 or less (a kernel distance can be) asks for no increase."""
    bound = f"at most {at_most:g}" if at_most else f"at least {at_least:g}"
    criterion = f"{name} {bound} × the baseline's"
    if new is None or old is None:
        return Check(criterion, None, "undefined")
    if old <= 0:
        return Check(criterion, new <= old if at_most else new >= old, f"{_number(old)} to {_number(new)}")
    passed = new <= at_most * old if at_most else new >= at_least * old
    return Check(criterion, passed, f"{new / old:.2f} ×")


def _confirmed_by_judge(reward: Figures, gain: Figures) -> Check:
    """The judge sees a gain, and not significantly less than its share of what the reward gained: no reward hacking."""
    name, rewards = reward["name"], [reward]
    criterion = f"Judge sees {CONFIRMED_SHARE:.0%} of the gain in {reward['label']}"
    if name not in gain or f"judge_{name}" not in gain or verdict(name, gain[name], rewards) <= 0:
        return Check(criterion, None, "no significant gain to confirm")
    seen, margin = gain[f"judge_{name}"], gain[f"judge_margin_{name}"]
    passed: bool | None = None
    if None not in (*seen["ci"], *margin["ci"]):
        confirmed = verdict(f"judge_{name}", seen, rewards) > 0
        passed = confirmed and verdict(f"judge_margin_{name}", margin, rewards) >= 0
    figures = f"{_signed(seen['mean'])} {_span(*seen['ci'])} of {_signed(gain[name]['mean'])}"
    return Check(criterion, passed, f"{figures}; over {CONFIRMED_SHARE:.0%}: {_span(*margin['ci'])}")


def _gap_closed(share: Figures) -> Check:
    """The share of the gap to real images that was closed, each reward capped at their level."""
    criterion = f"{GAP_SHARE:.0%} of the gap to real is closed, each reward capped at real"
    if share["mean"] is None:
        return Check(criterion, None, "undefined")
    return Check(criterion, share["mean"] >= GAP_SHARE, percent_interval(share))


def _if_defined(value: float | None, question: Callable[[], bool]) -> bool | None:
    return None if value is None else bool(question())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _span(low: float | None, high: float | None) -> str:
    return f"({_signed(low)}, {_signed(high)})"
