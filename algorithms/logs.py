"""What a run writes down: numbers of every iteration to log.jsonl and the trackers, pictures, a progress bar.

B samples of this rank; keys are those that users of TRL know.
"""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from tensordict import TensorDictBase
from torch import Tensor
from tqdm import tqdm

from algorithms.advantages import frac_reward_zero_std
from algorithms.files import save_png, write_whole


def rollout_metrics(rollout: TensorDictBase, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """reward, reward_std, rewards/{name}/mean and /std over all ranks, and the shares that teach nothing."""
    step, metrics = rollout["next"], {}
    reward, group = gather(step["reward"].squeeze(-1)), gather(rollout["group"])
    metrics["reward"], metrics["reward_std"] = mean_std(reward)
    for name, value in step.get("rewards", {}).items():
        metrics[f"rewards/{name}/mean"], metrics[f"rewards/{name}/std"] = mean_std(gather(value))
    metrics["frac_reward_zero_std"] = frac_reward_zero_std(reward, group).item()
    metrics["frac_reward_nan"] = 1 - reward.isfinite().float().mean().item()
    return metrics


def mean_std(x: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the finite entries; nan when there are none."""
    x = x[x.isfinite()].double()
    return (x.mean().item(), x.std(correction=0).item()) if len(x) else (math.nan, math.nan)


def time_metrics(seconds: dict[str, float]) -> dict[str, float]:
    """time/{name} in seconds, and time/outside: the share that is neither the network's rollouts nor its training."""
    network = seconds.get("rollout", 0.0) + seconds.get("train", 0.0)
    return {f"time/{name}": s for name, s in seconds.items()} | {"time/outside": 1 - network / seconds["total"]}


def mean_seconds(log: Path) -> dict[str, float]:
    """Seconds an iteration by phase, from a log.jsonl, and the share spent `outside` the network."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    names = [key.removeprefix("time/") for key in lines[0] if key.startswith("time/") and key != "time/outside"]
    seconds = {name: sum(line.get(f"time/{name}", 0.0) for line in lines) / len(lines) for name in names}
    return seconds | {"outside": time_metrics(seconds)["time/outside"]}


class Log:
    """Written by the main process alone; a resumed run drops the lines of iterations that it does again."""

    def __init__(self, accelerator: Accelerator, output_dir: Path, start: int):
        self.accelerator, self.output_dir, self.file = accelerator, output_dir, output_dir / "log.jsonl"
        if accelerator.is_main_process:
            lines = self.file.read_text().splitlines() if start and self.file.exists() else []
            write_whole(self.file, "".join(f"{line}\n" for line in lines if before(line, start)).encode())

    def bar(self, iterations: Iterable[int], total: int) -> tqdm:
        """A progress bar over iterations that shows the rewards."""
        done = total - len(list(iterations))
        return tqdm(iterations, initial=done, total=total, disable=not self.accelerator.is_main_process, unit="it")

    def numbers(self, iteration: int, metrics: dict[str, float], bar: tqdm) -> None:
        """One line of numbers; JSON has no nan, so that what is none is left out of it."""
        self.accelerator.log(metrics, step=iteration)
        if self.accelerator.is_main_process:
            known = {key: value for key, value in metrics.items() if math.isfinite(value)}
            with self.file.open("a") as file:
                file.write(json.dumps({"iteration": iteration} | known) + "\n")
            short = {key.split("/")[1]: value for key, value in metrics.items() if key.endswith("/mean")}
            bar.set_postfix({name: f"{value:.2f}" for name, value in ({"reward": metrics["reward"]} | short).items()})

    def picture(self, iteration: int, picture: np.ndarray) -> None:
        """A picture (H, W, 3) uint8, as samples/000010.png and for the trackers that take pictures."""
        if not self.accelerator.is_main_process:
            return
        save_png(picture, self.output_dir / "samples" / f"{iteration:06d}.png")
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({"samples": picture[None]}, step=iteration, dataformats="NHWC")
            elif tracker.name == "wandb":
                tracker.log_images({"samples": [picture]}, step=iteration)


def before(line: str, start: int) -> bool:
    """Whether a line of the log belongs to an iteration before start; a line cut off by a crash does not."""
    try:
        return json.loads(line)["iteration"] < start
    except ValueError:
        return False


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as trackers take them: numbers, strings and truth values."""
    return {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in settings.items()}


def averages(parts: list[tuple[int, dict[str, Tensor]]], accelerator: Accelerator) -> dict[str, float]:
    """Metrics of micro-batches of so many rows, averaged over rows and ranks."""
    weight = torch.tensor([n for n, _ in parts], dtype=torch.float64) / sum(n for n, _ in parts)
    names = list(parts[0][1])
    values = torch.stack([torch.stack([metrics[name].detach().float() for name in names]) for _, metrics in parts])
    mean = (weight.to(values)[:, None] * values).sum(0)  # (names,)
    return dict(zip(names, accelerator.reduce(mean, "mean").tolist(), strict=True))
