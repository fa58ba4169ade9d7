"""Acceptance checks of a training, from an evaluation alone; among them reward hacking and mode collapse."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

CONTROLS = ("zero-reward", "shuffled-reward", "flipped-reward")  # rows that were trained to show no gain
DISTANCE_RATIO = 1.1  # of the baseline's Frechet and kernel distance, at most
DIVERSITY_RATIO = 0.8  # of the baseline's diversity inside a group, at least
CONFIRMED_SHARE = 0.6  # of a reward's gain that the judge must see too, at least
GAP_SHARE = 0.5  # of the way from the baseline's total to that of real images, at least

Figures = Mapping[str, Any]


class Check(NamedTuple):
    """A criterion, whether it is met (None: it does not apply), and the figures behind the answer."""

    criterion: str
    passed: bool | None
    figures: str


def acceptance_checks(evaluation: Figures, row: str = "rl", baseline: str = "base") -> list[Check]:
    """All checks of a row against its baseline: rewards, distances, diversity, judges and the gap to real images."""
    new, old = evaluation["rows"][row], evaluation["rows"][baseline]
    gain, rewards = evaluation["paired"][f"{row}-{baseline}"], evaluation["rewards"]
    low, high = gain["total"]["ci"]
    worse = [r["label"] for r in rewards if r["name"] in gain and (gain[r["name"]]["ci"][1] or 0) < 0]
    checks = [
        Check(
            "Total reward rises, interval above 0",
            _if_defined(low, lambda: low > 0),
            f"{_signed(gain['total']['mean'])} {_span(low, high)}",
        ),
        Check("No reward falls significantly", not worse, ", ".join(worse) or "none"),
        _ratio("Fréchet distance", new["frechet"], old["frechet"], at_most=DISTANCE_RATIO),
        _ratio("Kernel distance", new["kernel"], old["kernel"], at_most=DISTANCE_RATIO),
        _ratio("Diversity", new["diversity"], old["diversity"], at_least=DIVERSITY_RATIO),
    ]
    if "w1_mean" in gain:
        closer = _if_defined(gain["w1_mean"], lambda: gain["w1_mean"] < 0)
        figures = f"{_number(old['w1_mean'])} to {_number(new['w1_mean'])} σ"
        checks.append(Check("Measures come closer to real cells (mean W1)", closer, figures))
    checks += [_confirmed_by_judge(reward, gain) for reward in rewards if reward["judge"]]
    return checks + ([_gap_closed(gain, evaluation["rows"], baseline)] if "real" in evaluation["rows"] else [])


def _ratio(name: str, new: float | None, old: float | None, *, at_most: float = 0, at_least: float = 0) -> Check:
    """new / old within its bound; an old value of 0 or less (a kernel distance can be) asks for no increase."""
    bound = f"at most {at_most:g}" if at_most else f"at least {at_least:g}"
    criterion = f"{name} {bound} × the base's"
    if new is None or old is None:
        return Check(criterion, None, "undefined")
    if old <= 0:
        return Check(criterion, new <= old if at_most else new >= old, f"{_number(old)} to {_number(new)}")
    passed = new <= at_most * old if at_most else new >= at_least * old
    return Check(criterion, passed, f"{new / old:.2f} ×")


def _confirmed_by_judge(reward: Figures, gain: Figures) -> Check:
    """The judge sees a share of what the reward gained: less is reward hacking."""
    name = reward["name"]
    gained, confirmed = (gain.get(key, {"mean": None})["mean"] for key in (name, f"judge_{name}"))
    criterion = f"Judge sees {CONFIRMED_SHARE:.0%} of the gain in {reward['label']}"
    if gained is None or confirmed is None or gained <= 0:
        return Check(criterion, None, "no gain to confirm")
    passed = confirmed >= CONFIRMED_SHARE * gained
    return Check(criterion, passed, f"{_signed(confirmed)} of {_signed(gained)}")


def _gap_closed(gain: Figures, rows: Figures, baseline: str) -> Check:
    """The share of the gap in total between baseline and real images that was closed."""
    criterion = f"{GAP_SHARE:.0%} of the gap in total to real is closed"
    rise, real, old = (figures["total"]["mean"] for figures in (gain, rows["real"], rows[baseline]))
    if rise is None or real is None or old is None:
        return Check(criterion, None, "undefined")
    gap = real - old
    if gap <= 0:
        return Check(criterion, None, "the baseline's total is not below that of real cells")
    return Check(criterion, rise >= GAP_SHARE * gap, f"{rise / gap:.0%}".replace("-", "−"))


def _if_defined(value: float | None, question: Callable[[], bool]) -> bool | None:
    return None if value is None else bool(question())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _span(low: float | None, high: float | None) -> str:
    return f"({_signed(low)}, {_signed(high)})"
