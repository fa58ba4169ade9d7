"""Run logs: metrics of every iteration to log.jsonl and the trackers, sample pictures, a progress bar.

B samples of this rank. Metric keys follow TRL.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor
from tqdm import tqdm

from algorithms.advantages import Gather, frac_reward_zero_std, signal_shares
from algorithms.files import save_png, write_whole
from algorithms.processes import from_main
from cellenv.json_io import validate

logger = logging.getLogger(__name__)

Log = list[dict[str, int | float]]  # a line for each iteration


def rollout_metrics(rollout: TensorDictBase, gather: Gather) -> dict[str, float]:
    """reward, reward_std, rewards/{name}/mean and /std over all ranks, frac_reward_zero_std and frac_reward_nan.

    pixel_diversity: see the function.
    signal_share/{name}, where each reward was normalised by itself: its share of the variance that is learned from. Of
    the sum of these is frac_reward_zero_std then: where one reward is nan, the others may teach.
    """
    step = rollout["next"]
    reward, group = gather(step["reward"].squeeze(-1)), gather(rollout["group"])
    metrics: dict[str, float] = {}
    metrics["reward"], metrics["reward_std"] = mean_std(reward)
    for name, value in step.get("rewards", {}).items():
        metrics[f"rewards/{name}/mean"], metrics[f"rewards/{name}/std"] = mean_std(gather(value))
    metrics |= {f"signal_share/{name}": share for name, share in signal_shares(rollout, gather).items()}
    terms = rollout.get("signal", None)
    # in float32, whose sums over a group are exact, so that what is equal has no deviation
    learned = reward if terms is None else gather(torch.stack([*terms.values()]).sum(0).float())
    metrics["frac_reward_zero_std"] = frac_reward_zero_std(learned, group).item()
    metrics["frac_reward_nan"] = 1 - reward.isfinite().float().mean().item()
    metrics["pixel_diversity"] = pixel_diversity(rollout["action"], rollout["group"], gather)
    return metrics


def pixel_diversity(images: Tensor, group: Tensor, gather: Gather) -> float:
    """Root mean square difference of pixels between two images of a group, over all ranks; nan for groups of one.

    images: (B, C, H, W) in [-1, 1]. A group lies on one rank. From the variance inside groups, sum of squares over
    B - groups: the mean square difference of two samples is twice that.
    """
    pixels = images.flatten(1).float()  # (B, P)
    ids, member = group.unique(return_inverse=True)
    sums = pixels.new_zeros(len(ids), pixels.shape[1]).index_add(0, member, pixels)  # (groups, P)
    centred = pixels - (sums / member.bincount()[:, None])[member]
    spread = centred.square().mean(1).sum()
    freedom = spread.new_tensor(float(len(pixels) - len(ids)))
    return (2 * gather(spread[None]).sum() / gather(freedom[None]).sum()).sqrt().item()


def mean_std(x: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the finite entries; nan if there are none."""
    x = x[x.isfinite()].double()
    return (x.mean().item(), x.std(correction=0).item()) if len(x) else (math.nan, math.nan)


def time_metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """time/{phase} in seconds, and time/outside, the fraction that is neither `rollout` nor `train`."""
    network = seconds.get("rollout", 0.0) + seconds.get("train", 0.0)
    return {f"time/{phase}": s for phase, s in seconds.items()} | {"time/outside": 1 - network / seconds["total"]}


def mean_time_per_phase(log: Log) -> dict[str, float]:
    """Mean seconds of an iteration by phase, and `outside`, the fraction outside the network; empty without a line."""
    seconds = mean_by_name(log, "time/")
    seconds.pop("outside", None)
    return seconds | {"outside": time_metrics(seconds)["time/outside"]} if seconds else {}


def mean_by_name(log: Log, prefix: str) -> dict[str, float]:
    """Mean over all lines of each key that starts with the prefix, without it; a line that lacks one counts as 0."""
    keys = dict.fromkeys(key for line in log for key in line if key.startswith(prefix))
    return {key.removeprefix(prefix): sum(line.get(key, 0.0) for line in log) / len(log) for key in keys}


class RunLogger:
    """Writes log.jsonl and samples/ on the main process, and passes both to the trackers.

    start: number of finished iterations; on resuming, lines of later ones are dropped. finished: the lines that stay.
    """

    def __init__(self, accelerator: Accelerator, output_dir: Path, start: int):
        self.accelerator, self.output_dir, self.file = accelerator, output_dir, output_dir / "log.jsonl"
        lines = from_main(partial(read_log, self.file), "read log.jsonl") if start else []
        self.finished = [line for line in lines if line["iteration"] < start]
        if accelerator.is_main_process:
            write_whole(self.file, "".join(f"{json.dumps(line)}\n" for line in self.finished).encode())

    def progress_bar(self, start: int, total: int) -> "tqdm[int]":
        """Progress bar over iterations start .. total - 1, shown by the main process."""
        hidden = not self.accelerator.is_main_process
        return tqdm(range(start, total), initial=min(start, total), total=total, disable=hidden, unit="it")

    def log_metrics(self, iteration: int, metrics: Mapping[str, float], bar: "tqdm[int]") -> None:
        """Log one iteration; values that are not finite are left out of log.jsonl, since JSON has no nan."""
        self.accelerator.log(dict(metrics), step=iteration)
        if not self.accelerator.is_main_process:
            return
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"iteration": iteration} | finite) + "\n")
        rewards = {key.split("/")[1]: value for key, value in metrics.items() if key.endswith("/mean")}
        shown = {"reward": metrics["reward"]} | rewards
        bar.set_postfix({name: f"{value:.2f}" for name, value in shown.items()})

    def log_warnings(self, messages: Sequence[str]) -> None:
        """Pass messages to the program's log, on the main process."""
        if self.accelerator.is_main_process:
            for message in messages:
                logger.warning(message)

    def log_samples(self, iteration: int, picture: NDArray[np.uint8]) -> None:
        """Save a picture (H, W, 3) uint8 as samples/000010.png and pass it to trackers that take pictures."""
        if not self.accelerator.is_main_process:
            return
        save_png(picture, self.output_dir / "samples" / f"{iteration:06d}.png")
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({"samples": picture[None]}, step=iteration, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({"samples": [picture]}, step=iteration)


def finish_trackers(accelerator: Accelerator) -> None:
    """Let the trackers write what they hold back."""
    for tracker in accelerator.trackers:
        tracker.finish()


def read_log(file: Path) -> Log:
    """The lines of a log.jsonl; none without a file, and not one that is cut off or holds more than numbers."""
    log: Log = []
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        with suppress(ValueError):
            numbers = validate(line, dict[str, int | float], file)
            log += [numbers] if "iteration" in numbers else []
    return log


def flatten_config(
    config: Mapping[str, Any], prefix: str = "", *, convert: Callable[[object], str] = str
) -> dict[str, int | float | str | bool]:
    """Flatten a nested config to dotted keys ("optim.learning_rate"), with values that trackers take.

    Numbers and booleans stay; other values are converted to strings.
    """
    flat: dict[str, int | float | str | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{name}.", convert=convert)
        else:
            flat[prefix + name] = value if isinstance(value, int | float) else convert(value)
    return flat


def reduce_metrics(parts: Sequence[tuple[int, Mapping[str, Tensor]]], accelerator: Accelerator) -> dict[str, float]:
    """Mean over rows and ranks of the metrics of micro-batches, given as (rows, metrics); of a `max_*` the largest."""
    weight = torch.tensor([n for n, _ in parts], dtype=torch.float64) / sum(n for n, _ in parts)
    names = list(parts[0][1])
    values = torch.stack([torch.stack([metrics[name].detach().float() for name in names]) for _, metrics in parts])
    mean = (weight.to(values)[:, None] * values).sum(0)  # (names,)
    metrics = dict(zip(names, accelerator.reduce(mean, "mean").tolist(), strict=True))
    if largest := [i for i, name in enumerate(names) if name.startswith("max_")]:
        highest = accelerator.gather(values[:, largest].amax(0, keepdim=True)).amax(0)  # (len(largest),)
        metrics |= zip((names[i] for i in largest), highest.tolist(), strict=True)
    return metrics
