"""Weights on disk: tensors in a safetensors file, config in a JSON file beside it. Neither can run code.

A path that ends in .safetensors names the weights, and the JSON file has the same stem; any other path is a
folder that holds model.safetensors and config.json.
"""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from cellenv.json_io import Schema, dump_json, read_json, validate

Model = TypeVar("Model", bound=nn.Module)
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
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
    dump_json(dict(config))  # raises before anything is written
    weights_file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(weights_file) as temporary:
        save_file(unshared(state_dict), temporary)
        text = dump_json({**config, "sha256": file_digest(temporary)})
    write_atomically(config_file, text)


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


def load_weights(path: str | Path, schema: type[Schema], model: str | None = None) -> tuple[Schema, dict[str, Tensor]]:
    """(config, state_dict) as they were saved, on the CPU; never runs code from the file.

    schema: of the config, a dataclass or dict[str, Any]; see `json_io`. model: what its entry "model" must be.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: if a file is damaged, a pickle, or of another save than its partner, or the config does not have the
            schema, or is of another model.
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
    config = read_json(config_file, dict[str, Any])
    if hashlib.sha256(weights).hexdigest() != _stored_digest(config, config_file):
        raise ValueError(f"{weights_file} is damaged or of another save than {config_file.name}; fetch both anew")
    del config["sha256"]
    if model is not None and config.get("model") != model:
        raise ValueError(f"{path} holds a {config.get('model')!s:.50}, need a {model}")
    try:
        return validate(json.dumps(config).encode(), schema, config_file), load(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights_file} is no safetensors file: {error}") from error


def digest(path: str | Path) -> str:
    """SHA-256 stored with the weights; identifies them."""
    config_file = weight_files(path)[1]
    return _stored_digest(read_json(config_file, dict[str, Any]), config_file)


def _stored_digest(config: Mapping[str, Any], file: Path) -> str:
    if not isinstance(found := config.get("sha256"), str):
        raise ValueError(
            f"{file} has no 'sha256' of the weights, so we did not write it: fetch it anew, or convert the published"
            " checkpoint (cellfluxrl convert)"
        )
    return found


def load_model(build: Callable[[], Model], state_dict: Mapping[str, Tensor], path: str | Path) -> Model:
    """The model that `build` makes, with these weights. What does not fit is refused before it takes memory.

    Raises:
        ValueError: if names or shapes do not fit the model, or a weight is not finite; names the path.
    """
    try:
        with torch.device("meta"):
            needed = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"the config at {path} makes no model: {error}") from error
    for name in sorted(needed.keys() | state_dict.keys()):
        need, came = needed.get(name), tuple(state_dict[name].shape) if name in state_dict else None
        if need != came:
            raise ValueError(f"the weights at {path} do not fit its config: {name} needs {need}, got {came}")
        if not state_dict[name].isfinite().all():
            raise ValueError(f"the weights at {path} hold nan or infinity in {name}: take an earlier save")
    model = build()
    model.load_state_dict(state_dict)
    return model


def weight_files(path: str | Path) -> tuple[Path, Path]:
    """(weights, config) files of a path.

    Raises:
        ValueError: if the path names a pickle.
    """
    path = Path(path)
    if path.suffix in PICKLES:
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
    """Yield a temporary path in the same folder; when the block ends, sync it and rename it to `file`.

    Raises:
        OSError: it cannot be written, for example on a full disk; names the file.
    """
    temporary = file.with_name(f".{file.name}.{socket.gethostname()}.{os.getpid()}")  # of hosts that share a disk
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # the umask's; safetensors writes 0600
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(file)
    except (OSError, RuntimeError, SafetensorError) as error:  # of a full disk, without a path
        if getattr(error, "filename", None):
            raise
        raise OSError(f"{file} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
