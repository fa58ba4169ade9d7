"""Weights on disk: tensors in a safetensors file, config in a JSON file beside it. Neither can run code.

A path that ends in .safetensors names the weights, and the JSON file has the same stem; any other path is a
folder that holds model.safetensors and config.json.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

PICKLE_MAGIC = (b"PK\x03\x04", b"\x80")  # first bytes of files by torch.save and pickle


def save_weights(path: str | Path, state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write weights and config atomically: temporary file, fsync, rename; the config last.

    config: JSON values, no nan. The SHA-256 of the weights is stored in it, so that reading detects damaged
    files and halves of different saves. Weights on the CPU are written without a copy.

    Raises:
        ValueError: if config holds the key "sha256" or nan, or the path names a pickle.
    """
    if "sha256" in config:
        raise ValueError("config must not hold the key 'sha256'; it is the digest of the weights")
    weights_file, config_file = weight_files(path)
    json.dumps(config, allow_nan=False)  # raises before anything is written
    weights_file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(weights_file) as temporary:
        save_file(unshared(state_dict), temporary)
        text = json.dumps({**config, "sha256": file_digest(temporary)}, indent=2, allow_nan=False)
    write_atomically(config_file, text.encode() + b"\n")


def unshared(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors of which no two share memory, as safetensors requires."""
    tensors: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in state_dict.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in taken else tensor
        taken.add(memory)
    return tensors


def load_weights(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, state_dict) as they were saved, on the CPU; never runs code from the file.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: if a file is damaged, a pickle, or of another save than its partner.
    """
    weights_file, config_file = weight_files(path)
    for file in (weights_file, config_file):
        if not file.is_file():
            raise FileNotFoundError(
                f"no weights at {path}: need {weights_file.name} and {config_file.name}, miss {file}"
            )
    weights = weights_file.read_bytes()
    if weights.startswith(PICKLE_MAGIC) and weights[8:9] != b"{":  # a safetensors header may have such a length
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
    """SHA-256 stored with the weights; identifies them."""
    config_file = weight_files(path)[1]
    return str(json.loads(config_file.read_text())["sha256"])


def load_state(model: nn.Module, state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Load every weight into the model; `path` is named in the error.

    Raises:
        ValueError: if names or shapes do not fit the model.
    """
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(f"the weights at {path} do not fit a {type(model).__name__}: {error}") from error


def weight_files(path: str | Path) -> tuple[Path, Path]:
    """(weights, config) files of a path.

    Raises:
        ValueError: if the path names a pickle.
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"):
        raise ValueError(
            f"{path} names a pickle, which can run code; need a .safetensors file or a folder that holds one"
        )
    if path.suffix == ".safetensors":
        return path, path.with_suffix(".json")
    return path / "model.safetensors", path / "config.json"


def file_digest(file: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old or the new content: temporary file, fsync, rename."""
    with atomic_replace(file) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_replace(file: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends, sync it and rename it to `file`."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
