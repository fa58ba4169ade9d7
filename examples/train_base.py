"""Train the base generator by flow matching: a control of the same experimental batch becomes a treated image.

    accelerate launch examples/train_base.py --output-dir runs/base
    accelerate launch examples/train_base.py --preset cellflux --data DATA --judge WEIGHTS   # as published, on a GPU

A validation leaves a picture of samples and the curves so far: loss, and distances to real cells. By default the
learning rate is constant until the last fifth of the steps, and the state at that point is kept: `--resume` with more
`--steps` goes on from there, and equals a run of as many steps from the start bit for bit.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from command_line import parse
from options import Cells


@dataclass(frozen=True, kw_only=True)
class Config(Cells):
    output_dir: Path = Path("runs/base")
    network: Literal["embedded", "cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"] = "embedded"
    steps: int = 6_000  # optimizer steps
    batch_size: int = 48  # pairs a step, over all processes
    optimizer: Literal["muon", "adamw"] = "muon"  # muon: AdamW for biases and norms
    lr: float = 2e-3  # after the warm-up
    warmup: int = 500  # steps in which the learning rate rises
    cooldown: float = 0.2  # share of the steps, at the end, in which it falls to 0
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    decay: float = 0.999  # of the average of the weights
    times: Literal["uniform", "skewed"] = "uniform"  # skewed: CellFlux's, more of them near the sample
    noise_level: float = 1.0  # std of the noise on the source
    noise_share: float = 1.0  # share of the samples that have it; CellFlux: 0.5. Sampling always has it
    condition_dropout: float = 0.2  # share of the samples whose condition is left out
    guidance: float = 0.7  # that is trained into the network: one pass then draws what two draw with this guidance
    flip: float = 0.3  # probability of each mirroring, for either image alone
    dequantise: bool = False  # add to each pixel what rounding to a byte may have taken; CellFlux does
    sampling: Literal["default", "cellflux"] = "default"  # how the generator draws; cellflux: 200 passes an image
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"  # auto: as told, else bf16 if the hardware has it
    threads: int | None = None  # of each process on a machine without a GPU; None shares the cores
    trackers: tuple[str, ...] = ()  # for example tensorboard
    seed: int = 0
    save_every: int = 1_000  # steps between checkpoints
    draw_every: int = 1_000  # steps between validations, with pictures
    validation: int = 256  # pairs, and images whose distance to real ones is taken
    judge: Path | None = None  # weights of the judge in whose features; None: the embedded world's, none for --data
    inception: Path | None = None  # torch-fidelity's Inception weights: adds FID and KID, at 0.3 s an image on a CPU
    resume: bool = False  # go on from the newest checkpoint in output_dir


DEFAULT = Config()
SMOKE = replace(
    DEFAULT,
    output_dir=Path("runs/base-smoke"),
    steps=4,
    batch_size=4,
    warmup=2,
    save_every=2,
    draw_every=2,
    validation=4,
)
CELLFLUX = replace(  # arXiv:2502.09775; the images' size and the compounds' come from the data, so RxRx1 and JUMP too
    DEFAULT,
    output_dir=Path("runs/base-cellflux"),
    network="cellflux-bbbc021",
    steps=100_000,  # 130 epochs of 98,000 images; published: 100 to 200
    batch_size=128,
    optimizer="adamw",
    lr=1e-4,
    warmup=0,
    cooldown=0.0,
    times="skewed",
    noise_share=0.5,  # of the samples, as the conditions that are left out; published: of the batches
    guidance=0.0,
    dequantise=True,
    sampling="cellflux",
    save_every=5_000,
    draw_every=5_000,
)
PRESETS = {"default": DEFAULT, "smoke": SMOKE, "cellflux": CELLFLUX}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from base_run import Run, cooldown_start
from loading import load_cells
from tqdm import tqdm

from algorithms.launch import start_accelerator
from cellenv.data.cells import CellData


def main(config: Config) -> None:
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share {config.batch_size} pairs evenly")
    accelerator.init_trackers("base")
    run = Run(config, accelerator, *load_data(config))
    start = run.load() if config.resume else 0
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = tqdm(total=config.steps, initial=start, disable=not accelerator.is_main_process, smoothing=0.02)
    for step in range(start, config.steps):
        if step == cooldown_start(config.steps, config.cooldown):
            run.save("stable", step)
        loss = run.step(step, share)
        done = step + 1
        if done % config.draw_every == 0 or done == config.steps:
            run.validate(done)
        if done % config.save_every == 0 or done == config.steps:
            run.save("checkpoints", done)
        bar.update()
        if done % 20 == 0:
            bar.set_postfix({"loss": loss.item()} | (run.history[-1] if run.history else {}))
            accelerator.log({"loss": loss.item(), "lr": run.optimizer.param_groups[0]["lr"]}, step=done)
    bar.close()
    run.publish()
    accelerator.end_training()


def load_data(options: Cells) -> tuple[CellData, CellData]:
    """(train, validation); a folder has no validation split: its test split."""
    return load_cells(options, "train"), load_cells(options, "validation" if options.data is None else "test")


if __name__ == "__main__":
    main(CONFIG)
