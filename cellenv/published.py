"""Weights of published CellFlux checkpoints (.pth), read without running code from the file.

Such a file was written by torch.save and holds a dict with `model`, `optimizer`, `lr_schedule`, `epoch`,
`scaler` and `args` (the training's command line). Without EMA, `model` is the network's state dict. With EMA
it holds `num_updates`, the raw weights as `model.<name>`, and their EMA as `shadow_params.<i>`, where i is
the index of the name.
"""

import pickle
import pickletools
import re
import zipfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.serialization import safe_globals

from cellenv.networks import PRESETS, UNet, UNetConfig
from cellenv.weights_io import file_digest

# Classes that `args` may hold beside plain data; paths are read as pure paths, which cannot access the disk.
ALLOWED: list[Any] = [
    Namespace,
    SimpleNamespace,  # what CellFlux's own training script stores
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),  # the latter: Python 3.13
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
]
# What torch's restricted unpickler makes of any size from a few bytes, besides torch's tensors.
OVERSIZED = ("builtins.bytearray", "__builtin__.bytearray", "_codecs.encode", "collections.Counter")
MOST_OPERATIONS, MOST_CALLS = 500_000, 20_000  # of a pickle; a published one has 60,000 and 4,000
EMA_PREFIX = "shadow_params."


@dataclass(frozen=True, kw_only=True)
class Published:
    """Config, weights and provenance of a published network."""

    network: UNetConfig
    weights: dict[str, Tensor]  # float32, names as in `UNet`; mapped from disk where the file has float32
    metadata: dict[str, Any]  # source (file name), source_sha256, epoch, weights ("ema" or "raw")


def read_published(
    file: str | Path, *, weights: Literal["ema", "raw"] = "ema", network: UNetConfig | None = None
) -> Published:
    """Read the network of a published checkpoint.

    weights: EMA or raw; a file without EMA gives its raw weights either way.
    network: its config; None detects the CellFlux preset from the file's condition size and image channels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or holds more than plain data, or the weights do not fit.
    """
    file = Path(file)
    if weights not in ("ema", "raw"):
        raise ValueError(f"weights must be 'ema' or 'raw'; got {weights!r}")
    content = read_safely(file)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{file} is no CellFlux checkpoint: need a dict with a dict 'model' in it; got {found}")
    model = {str(name).removeprefix("module."): value for name, value in content["model"].items()}

    has_ema = "num_updates" in model or any(name.startswith(EMA_PREFIX) for name in model)
    chosen = raw_weights(model) if has_ema else model
    if has_ema and weights == "ema":
        chosen = ema_weights(model, list(chosen), file)
    network = detect_config(chosen, file) if network is None else network
    metadata = {
        "source": file.name,
        "source_sha256": file_digest(file),
        "epoch": content["epoch"] if isinstance(content.get("epoch"), int) else None,
        "weights": weights if has_ema else "raw",
    }
    return Published(network=network, weights=validate_weights(chosen, network, file), metadata=metadata)


def read_safely(file: Path) -> Any:
    """Load a torch.save file that holds only tensors (memory-mapped), plain data and `ALLOWED` classes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or holds anything else.
    """
    check_pickle(check_archive(file), file)
    try:
        with safe_globals(ALLOWED):
            return torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error.__context__ or error)
        named = re.search(r"GLOBAL (\S+)", reason)
        raise _unread(file, named[1] if named else f"{reason!r:.200}") from error
    except Exception as error:  # the unpickler does what an edited pickle says, and raises whatever comes of it
        raise ValueError(f"{file} is no checkpoint that torch.save wrote: {error!s:.200}; fetch it anew") from error


def _unread(file: Path, wanted: str) -> ValueError:
    return ValueError(
        f"{file} wants {wanted}, which is not read, since it could run code; need tensors, numbers, text and a "
        "namespace. Only where you trust the file, save it without that: content = torch.load(FILE, "
        'weights_only=False); torch.save({"model": content["model"], "epoch": content["epoch"]}, NEW)'
    )


def check_pickle(content: bytes, file: Path) -> None:
    """Check that a pickle is as short as that of a checkpoint, and names nothing that takes memory of its own.

    Raises:
        ValueError: if it is not.
    """
    calls, named = 0, []
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
            calls += operation.name in ("REDUCE", "BUILD", "NEWOBJ")
            if number > MOST_OPERATIONS or calls > MOST_CALLS:
                raise ValueError(f"more than {MOST_OPERATIONS} operations or {MOST_CALLS} objects")
            if operation.name == "GLOBAL":
                named.append(str(argument).replace(" ", "."))
    except Exception as error:  # of the many that a damaged pickle raises
        raise ValueError(f"{file} is no checkpoint that torch.save wrote: {error!s:.200}; fetch it anew") from error
    if oversized := [name for name in named if name in OVERSIZED or name.endswith("Tensor")]:
        foreign = [name for name in dict.fromkeys(named) if not name.startswith(("torch.", "collections."))]
        raise _unread(file, ", ".join(foreign or oversized)[:200])


def check_archive(file: Path) -> bytes:
    """The pickle in a complete zip archive whose members match their checksums and are as long as they are stored.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {file}: need a .pth file that torch.save wrote")
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(4)
    if start != b"PK\x03\x04":
        raise ValueError(
            f"{file} is no archive: need one as torch.save writes since PyTorch 1.6, beginning with PK; got {start!r}. "
            "Fetch it anew, or, where you trust it, save it again with a newer PyTorch"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > size:
                raise ValueError("its members are compressed or overlap, as torch.save never writes them")
            damaged = archive.testzip()
            names = [PurePosixPath(member.filename.lower()).name for member in members]  # torch ignores the case
            pickles = [member for member, name in zip(members, names, strict=True) if name == "data.pkl"]
            content = archive.read(pickles[0]) if len(pickles) == 1 and not damaged else b""
    except Exception as error:  # of the many that zipfile raises
        raise ValueError(f"{file} is damaged or cut short at {size} bytes: {error}; fetch it anew") from error
    if damaged:
        raise ValueError(f"{file} is damaged: {damaged} in it does not have its checksum; fetch it anew")
    if len(pickles) != 1:
        raise ValueError(
            f"{file} is no checkpoint that torch.save wrote: need one data.pkl in it, got {len(pickles)}; fetch it anew"
        )
    return content


def raw_weights(model: dict[str, Any]) -> dict[str, Any]:
    """Raw weights `model.<name>`, in the order of the file, which is that of the network's parameters."""
    inside = {name.removeprefix("model."): value for name, value in model.items() if name.startswith("model.")}
    return {name.removeprefix("module."): value for name, value in inside.items()}


def ema_weights(model: dict[str, Any], names: Sequence[str], file: Path) -> dict[str, Any]:
    """EMA weights {names[i]: `shadow_params.<i>`}.

    Raises:
        ValueError: unless there is exactly one for each name.
    """
    needed = [f"{EMA_PREFIX}{i}" for i in range(len(names))]
    found = [name for name in model if name.startswith(EMA_PREFIX)]
    if set(needed) != set(found):
        missing = sorted(set(needed) - set(found), key=needed.index)
        raise ValueError(
            f"{file}: need {len(needed)} {EMA_PREFIX}*, one for each of the weights model.*; got {len(found)}, missing "
            f"{summarize(missing)}. Fetch it anew, or ask for the raw weights"
        )
    return {name: model[key] for name, key in zip(names, needed, strict=True)}


def detect_config(weights: dict[str, Any], file: Path) -> UNetConfig:
    """CellFlux preset whose condition size and number of image channels fit the weights.

    Raises:
        ValueError: if none fits.
    """
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


def validate_weights(weights: dict[str, Any], network: UNetConfig, file: Path) -> dict[str, Tensor]:
    """The weights as float32, in the order of the `UNet`.

    Raises:
        ValueError: if a name is missing or foreign, a shape differs, or a value is not finite.
    """
    with torch.device("meta"):
        needed = {name: tuple(tensor.shape) for name, tensor in UNet(network).state_dict().items()}
    missing, foreign = sorted(needed.keys() - weights.keys()), sorted(weights.keys() - needed.keys())
    if missing or foreign:
        raise ValueError(
            f"{file}: need the {len(needed)} weights of {network}; got {len(weights)}, missing {summarize(missing)}, "
            f"foreign {summarize(foreign)}. Say which network it is, or fetch the file anew"
        )
    for name, shape in needed.items():
        check_weight(weights[name], shape, f"{file}: {name}")
    return {name: weights[name].detach().float() for name in needed}


def check_weight(weight: Any, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless the weight is a floating-point tensor of this shape with finite values."""
    if not isinstance(weight, Tensor) or tuple(weight.shape) != shape or not weight.is_floating_point():
        got = f"{tuple(weight.shape)} {weight.dtype}" if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"{name} needs {shape} floats; got {got}. Say which network it is, or fetch the file anew")
    if not weight.isfinite().all():
        raise ValueError(f"{name} needs finite numbers; got nan or infinity. Take a checkpoint of an earlier epoch")


def summarize(names: Sequence[str]) -> str:
    """The first three names and the number of the others, "none" if there are none."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
