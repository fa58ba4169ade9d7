"""What train_base.py can be told, and its recipes: the shipped base's, CellFlux's. Light to import."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
