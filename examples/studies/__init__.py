"""Scripts behind the tables and pictures of docs/: `python -m examples.studies.NAME`, from the repository root."""
