"""Generators on the Hugging Face Hub: a repository holds the two files of `CellFlux.save_pretrained`."""

import re
from pathlib import Path

FILES = ["model.safetensors", "config.json"]
INSTALL = "pip install 'cellfluxrl[hub]'"


def is_repository(name: str | Path) -> bool:
    """Whether the name has the form "owner/name"; a `Path` never has."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def download(repo_id: str) -> Path:
    """Local folder of a repository, from the Hub's cache if it was downloaded before.

    Raises:
        FileNotFoundError: if huggingface_hub is not installed, or the Hub has no such repository or no connection.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(f"no folder {repo_id} here, and to look for it on the Hub: {INSTALL}") from error
    try:
        return Path(snapshot_download(repo_id, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # HTTP errors, no connection, invalid names
        raise FileNotFoundError(
            f"no folder {repo_id} here, and none came from the Hub: {error}. Need an existing folder or repository; "
            "for a private one, first `hf auth login`"
        ) from error


def upload(folder: str | Path, repo_id: str, private: bool | None = None) -> str:
    """Create the repository if needed, upload the folder's files and return the repository's URL.

    Raises:
        ValueError: if repo_id is not "owner/name".
        ImportError: if huggingface_hub is not installed.
    """
    if not is_repository(repo_id):
        raise ValueError(f"need a repository as 'owner/name', got {repo_id!r}")
    try:
        from huggingface_hub import create_repo, upload_folder
    except ImportError as error:
        raise ImportError(f"need huggingface_hub to push {repo_id} to the Hub: {INSTALL}") from error
    url = create_repo(repo_id, private=private, exist_ok=True)
    upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=FILES)
    return str(url)
