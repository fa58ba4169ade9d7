"""Generators on the Hugging Face Hub: a repository holds the two files that `CellFlux.save_pretrained` writes."""

import re
from pathlib import Path

FILES = ["model.safetensors", "config.json"]
INSTALL = "pip install 'cellfluxrl[hub]'"


def is_repository(name: str | Path) -> bool:
    """Whether the name reads as "owner/name"; a `Path` never does."""
    return isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def download(repo_id: str) -> Path:
    """The folder that a repository was fetched into; what was fetched before is not fetched again."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(f"no folder {repo_id} here, and to look for it on the Hub: {INSTALL}") from error
    try:
        return Path(snapshot_download(repo_id, allow_patterns=FILES))
    except (OSError, ValueError) as error:  # what the Hub answers, or that it does not
        raise FileNotFoundError(
            f"no folder {repo_id} here, and none came from the Hub: {error}. Need an existing folder or repository; "
            "for a private one, first `hf auth login`"
        ) from error


def upload(folder: str | Path, repo_id: str, private: bool | None = None) -> str:
    """Make the repository where it does not exist, put the folder's files into it; returns its address."""
    if not is_repository(repo_id):
        raise ValueError(f"need a repository as 'owner/name', got {repo_id!r}")
    try:
        from huggingface_hub import create_repo, upload_folder
    except ImportError as error:
        raise ImportError(f"need huggingface_hub to push {repo_id} to the Hub: {INSTALL}") from error
    address = create_repo(repo_id, private=private, exist_ok=True)
    upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=FILES)
    return str(address)
