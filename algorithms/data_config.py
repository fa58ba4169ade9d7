"""Configs of the cells to train or test on. Light to import."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

UNLABELLED = ("rxrx1", "jump")  # layouts of `cellenv.data.layouts` without mechanisms of action


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """How a folder of images is read."""

    layout: Literal["bbbc021", "rxrx1", "jump"] = "bbbc021"  # its files, columns and stains
    index: Path | None = None  # table of the images, where the folder has several
    embeddings: Path | None = None  # table of the compounds' conditions, where the folder has several
    channels: str | None = None  # their stains in order, Mito,AGP,RNA,ER,DNA, or by number, DNA=5,RNA=3; or a .json
    nucleus: str | None = None  # stain that shows nuclei
    cytoplasm: str | None = None  # stain that shows cells, or two of them: AGP,ER
    pairing: str | None = None  # column that a treated image shares with its controls
    label: str | None = None  # column of the mechanism of action
    unlabelled: bool = False  # read no mechanisms of action
    split_names: str | None = None  # values of the column SPLIT, where they are others: train=iid,test=ood
    state_names: str | None = None  # of the column of the state: treated=compound,control=negcon,ignored=poscon
    cache: Path | None = None  # folder of one packed copy of its images, made at the first use
    skip_bad: bool = False  # leave out rows that cannot be used; otherwise the first one is an error

    @property
    def labelled(self) -> bool:
        """Whether the images have mechanisms of action."""
        return not self.unlabelled and (self.label is not None or self.layout not in UNLABELLED)


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Which images of the embedded world."""

    world: int = 0  # seed of its plates, compounds and conditions
    draw: int = 0  # two draws of a world share no image


@dataclass(frozen=True, kw_only=True)
class DataConfig(WorldConfig, FolderConfig):
    """Cells to train or test on: a folder, or the embedded world."""

    path: Annotated[Path | None, arg(aliases=("--data",))] = None  # folder of images; None: the embedded world
    include_unseen: bool = False  # held-out compounds too, in every split: a small folder may have few others

    def __post_init__(self) -> None:
        of_world = {f.name for f in fields(WorldConfig)}
        given = [f for f in fields(self) if getattr(self, f.name) != f.default]
        refused = [f"--{f.name.replace('_', '-')}" for f in given if (f.name in of_world) == (self.path is not None)]
        if refused and self.path is None:
            raise ValueError(f"need --data DIR for {', '.join(refused)}: the embedded world takes none of these")
        if refused:
            raise ValueError(f"{', '.join(refused)} chooses images of the embedded world: leave it out with --data")
