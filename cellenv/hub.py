"""Generators on the Hugging Face Hub: a repository holds the two files of `CellFlux.save_pretrained`.

A repository is named "hf:owner/name", so that a mistyped path never asks the network.
"""

import re
from pathlib import Path

FILES = ["model.safetensors", "config.json"]
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
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{address} has no {' and no '.join(missing)}: another layout. Where it holds a published .pth, fetch that "
            "file, and `cellfluxrl convert FILE.pth FOLDER`"
        )
    return folder


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
    upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=FILES)
    return str(url)
