"""Weights on disk: tensors in a safetensors file, what describes them in a JSON file beside it. No file holds code.

A path that ends in .safetensors names the weights, and the JSON has the same stem; any other path is a folder that
holds model.safetensors and config.json.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

PICKLES = (b"PK\x03\x04", b"\x80")  # the first bytes of what torch.save and pickle write


def save_weights(path: str | Path, state_dict: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config; each file is written aside, synced and renamed, the config last.

    config: JSON values, no nan. The digest of the weights goes with it, so that two halves of different saves, or a
    damaged file, are found when they are read. Weights that lie on the CPU are written from where they lie.
    """
    if "sha256" in config:
        raise ValueError("config must not hold the key 'sha256'; it is the digest of the weights")
    weights_file, config_file = files(path)
    json.dumps(config, allow_nan=False)  # raises before anything is written
    weights_file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(weights_file) as aside:
        save_file(apart(state_dict), aside)
        text = json.dumps(config | {"sha256": file_digest(aside)}, indent=2, allow_nan=False)
    write_atomically(config_file, text.encode() + b"\n")


def apart(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, no two of them in one memory, as safetensors wants them."""
    tensors, taken = {}, set()
    for name, tensor in state_dict.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in taken else tensor
        taken.add(memory)
    return tensors


def load_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state_dict) as they were saved, on the CPU; never runs code from the file."""
    weights_file, config_file = files(path)
    for file in (weights_file, config_file):
        if not file.is_file():
            raise FileNotFoundError(
                f"no weights at {path}: need {weights_file.name} and {config_file.name}, miss {file}"
            )
    weights = weights_file.read_bytes()
    if weights.startswith(PICKLES) and weights[8:9] != b"{":  # a safetensors header may have such a length
        raise ValueError(
            f"{weights_file} is a pickle, which can run code; need safetensors: convert it where you trust it"
        )
    try:
        config = json.loads(config_file.read_text())
        digest = config.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{config_file} is damaged, need a JSON object with 'sha256': {error!r}; fetch it anew"
        ) from error
    if hashlib.sha256(weights).hexdigest() != digest:
        raise ValueError(f"{weights_file} is damaged or of another save than {config_file.name}; fetch both anew")
    try:
        return config, load(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights_file} is no safetensors file: {error}") from error


def digest(path: str | Path) -> str:
    """The SHA-256 that was saved with these weights: a name for exactly them."""
    config_file = files(path)[1]
    return json.loads(config_file.read_text())["sha256"]


def load_state(model: nn.Module, state_dict: dict[str, Tensor], path: str | Path) -> None:
    """Fill the model with every weight, or say which do not fit; `path` is named in the error."""
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(f"the weights at {path} do not fit a {type(model).__name__}: {error}") from error


def files(path: str | Path) -> tuple[Path, Path]:
    """(weights, config) files of a path."""
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"):
        raise ValueError(
            f"{path} names a pickle, which can run code; need a .safetensors file or a folder that holds one"
        )
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".json")
    return path / "model.safetensors", path / "config.json"


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content, which need not fit into memory."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """All of the content or the old file: written beside it, synced, renamed."""
    with replacing(file) as aside:
        aside.write_bytes(content)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside the file; what was written there when the block ends is synced and takes the file's place."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield aside
        with aside.open("rb+") as stream:
            os.fsync(stream.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
