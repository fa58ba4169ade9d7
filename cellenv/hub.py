"""Generators on the Hugging Face Hub: a repository holds what `CellFlux.save_pretrained` writes.

A repository is named "hf:owner/name", so that a mistyped path never asks the network.
"""

import re
from pathlib import Path

from cellenv.weights_io import PICKLES

FILES = ["model.safetensors", "config.json"]  # without one of them it is another layout
CARD = "README.md"
PREFIX = "hf:"
INSTALL = "pip install 'cellfluxrl[hub]'"


def is_address(name: str | Path) -> bool:
    """Whether the name is one of a repository; a `Path` never is."""
    return isinstance(name, str) and name.startswith(PREFIX)


def download(address: str) -> Path:
    """Local folder of the repository "hf:owner/name", from the Hub's cache if it was downloaded before.

    Raises:
        ValueError: if the address has another form.
        FileNotFoundError: if huggingface_hub is not installed, or the Hub has no such repository or no connection.
    """
    repo_id = repository(address)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(f"need huggingface_hub to fetch {address}: {INSTALL}") from error
    try:
        folder = Path(snapshot_download(repo_id, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # HTTP errors, no connection, invalid names
        raise FileNotFoundError(
            f"no {address} came from the Hub: {error}. Need an existing repository; for a private one, first "
            "`hf auth login`"
        ) from error
    check_layout(folder, address)
    return folder


def check_layout(folder: Path, name: str | Path) -> None:
    """Raise FileNotFoundError, which says how to convert it, unless the folder is one of `CellFlux.save_pretrained`."""
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        pickle = next((path.name for path in sorted(folder.glob("*")) if path.suffix in PICKLES), "FILE.pth")
        raise FileNotFoundError(
            f"{name} has no {' and no '.join(missing)}: another layout. Where it holds a published .pth: `cellfluxrl "
            f"convert {pickle} FOLDER`"
        )


def repository(address: str) -> str:
    """The "owner/name" of an address, with or without its "hf:".

    Raises:
        ValueError: if it has another form.
    """
    repo_id = address.removeprefix(PREFIX)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_id) is None:
        raise ValueError(f"need a repository as '{PREFIX}owner/name', got {address!r}")
    return repo_id


def upload(folder: str | Path, address: str, private: bool | None = None) -> str:
    """Create the repository if needed, upload the folder's files and return the repository's URL.

    Raises:
        ValueError: if the address is not "hf:owner/name" or "owner/name".
        ImportError: if huggingface_hub is not installed.
    """
    repo_id = repository(address)
    try:
        from huggingface_hub import create_repo, upload_folder
    except ImportError as error:
        raise ImportError(f"need huggingface_hub to push {repo_id} to the Hub: {INSTALL}") from error
    url = create_repo(repo_id, private=private, exist_ok=True)
    upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=[*FILES, CARD])
    return str(url)
