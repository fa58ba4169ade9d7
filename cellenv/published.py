"""Published CellFlux checkpoints (.pth): the network's weights, read without running anything that the file holds.

torch.save wrote such a file, of a dict with `model`, `optimizer`, `lr_schedule`, `epoch`, `scaler` and `args`, the
command line of the training. Without EMA, `model` is the network's state dict. With EMA it holds `num_updates`, the
weights in training as `model.<name>`, and their running means as `shadow_params.<i>`, i counting the names.
"""

import pickle
import re
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import torch
from torch import Tensor
from torch.serialization import safe_globals

from cellenv.checkpoints import file_digest
from cellenv.networks import PRESETS, UNet, UNetConfig

# Classes that `args` may hold beside numbers and text; paths become pure ones, which cannot touch a disk.
ALLOWED = [
    Namespace,
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),  # Python 3.13 has another
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
]
MEAN = "shadow_params."


@dataclass(frozen=True, kw_only=True)
class Published:
    """A network that was published, and where it comes from."""

    network: UNetConfig
    weights: dict[str, Tensor]  # float32, under the names of `UNet`; they stay on the disk until they are used
    metadata: dict[str, Any]  # source (file name), source_sha256, epoch, weights ("ema" or "raw")


def read_published(
    file: str | Path, *, weights: Literal["ema", "raw"] = "ema", network: UNetConfig | None = None
) -> Published:
    """The network of a published checkpoint.

    weights: the running means, or what was being trained; a file without means has only the latter, and gives them.
    network: its sizes; when None, the CellFlux preset with the file's condition size and image channels.
    """
    file = Path(file)
    if weights not in ("ema", "raw"):
        raise ValueError(f"weights must be 'ema' or 'raw'; got {weights!r}")
    content = read_safely(file)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{file} is no CellFlux checkpoint: need a dict with a dict 'model' in it; got {found}")
    model = {str(name).removeprefix("module."): value for name, value in content["model"].items()}

    averaged = "num_updates" in model or any(name.startswith(MEAN) for name in model)
    chosen = in_training(model) if averaged else model
    if averaged and weights == "ema":
        chosen = running_means(model, list(chosen), file)
    network = recognise(chosen, file) if network is None else network
    metadata = {
        "source": file.name,
        "source_sha256": file_digest(file),
        "epoch": content["epoch"] if isinstance(content.get("epoch"), int) else None,
        "weights": weights if averaged else "raw",
    }
    return Published(network=network, weights=fitting(chosen, network, file), metadata=metadata)


def read_safely(file: Path) -> Any:
    """What torch.save wrote: tensors that stay on the disk, numbers, text, containers, a namespace, paths; no more."""
    check_archive(file)
    try:
        with safe_globals(ALLOWED):
            return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error.__context__ or error)
        named = re.search(r"GLOBAL (\S+)", reason)
        raise ValueError(
            f"{file} wants {named[1] if named else repr(reason)}, which is not read, since it could run code; need "
            "tensors, numbers, text and an argparse.Namespace. Only where you trust the file, save it without that: "
            "content = torch.load(FILE, weights_only=False); "
            'torch.save({"model": content["model"], "epoch": content["epoch"]}, NEW)'
        ) from error
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"{file} is no checkpoint that torch.save wrote: {error}; fetch it anew") from error


def check_archive(file: Path) -> None:
    """Raise unless the file is a whole zip archive whose parts have the checksums that were written with them."""
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}: need a .pth file that torch.save wrote")
    with file.open("rb") as stream:
        start = stream.read(4)
    if start != b"PK\x03\x04":
        raise ValueError(
            f"{file} is no archive: need one as torch.save writes since PyTorch 1.6, beginning with PK; got {start!r}. "
            "Fetch it anew, or, where you trust it, save it again with a newer PyTorch"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, zlib.error) as error:
        size = file.stat().st_size
        raise ValueError(f"{file} is damaged or cut short at {size} bytes: {error}; fetch it anew") from error
    if damaged:
        raise ValueError(f"{file} is damaged: {damaged} in it does not have its checksum; fetch it anew")


def in_training(model: dict[str, Any]) -> dict[str, Any]:
    """The weights `model.<name>`, that were being trained, in the order of the file, which is the network's."""
    inside = {name.removeprefix("model."): value for name, value in model.items() if name.startswith("model.")}
    return {name.removeprefix("module."): value for name, value in inside.items()}


def running_means(model: dict[str, Any], names: Sequence[str], file: Path) -> dict[str, Any]:
    """The means `shadow_params.<i>`, each under the i-th of the names."""
    needed, found = [f"{MEAN}{i}" for i in range(len(names))], [name for name in model if name.startswith(MEAN)]
    if set(needed) != set(found):
        missing = sorted(set(needed) - set(found), key=needed.index)
        raise ValueError(
            f"{file}: need {len(needed)} {MEAN}*, one for each of the weights model.*; got {len(found)}, missing "
            f"{some(missing)}. Fetch it anew, or ask for the raw weights"
        )
    return {name: model[mean] for name, mean in zip(names, needed, strict=True)}


def recognise(weights: dict[str, Any], file: Path) -> UNetConfig:
    """The CellFlux preset that takes conditions and images of the size that these weights take."""
    presets = {name: config for name, config in PRESETS.items() if name.startswith("cellflux-")}
    sizes = {(config.condition_dim, config.size[0]): config for config in presets.values()}
    size = tuple(
        weights[name].shape[1] if isinstance(weights.get(name), Tensor) and weights[name].ndim > 1 else None
        for name in ("mol_embed_transform.weight", "input_blocks.0.0.weight")
    )
    if size not in sizes:
        raise ValueError(
            f"{file}: need weights for (condition size, channels) {list(sizes)}, as {list(presets)} have them; "
            f"got {size} in {len(weights)} weights. Say which network it is: network=UNetConfig(...)"
        )
    return sizes[size]


def fitting(weights: dict[str, Any], network: UNetConfig, file: Path) -> dict[str, Tensor]:
    """The weights in float32, after each was seen to be what a `UNet` of these sizes needs, and finite."""
    with torch.device("meta"):
        needed = {name: tuple(tensor.shape) for name, tensor in UNet(network).state_dict().items()}
    missing, foreign = sorted(needed.keys() - weights.keys()), sorted(weights.keys() - needed.keys())
    if missing or foreign:
        raise ValueError(
            f"{file}: need the {len(needed)} weights of {network}; got {len(weights)}, missing {some(missing)}, "
            f"foreign {some(foreign)}. Say which network it is, or fetch the file anew"
        )
    for name, shape in needed.items():
        check_weight(weights[name], shape, f"{file}: {name}")
    return {name: weights[name].detach().float() for name in needed}


def check_weight(weight: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise unless the weight is a tensor of that shape with finite floating-point numbers."""
    if not isinstance(weight, Tensor) or tuple(weight.shape) != shape or not weight.is_floating_point():
        got = f"{tuple(weight.shape)} {weight.dtype}" if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"{name} needs {shape} floats; got {got}. Say which network it is, or fetch the file anew")
    if not weight.isfinite().all():
        raise ValueError(f"{name} needs finite numbers; got nan or infinity. Take a checkpoint of an earlier epoch")


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
