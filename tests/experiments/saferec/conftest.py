"""Published reference files: read in place, never copied; tests skip where they are absent."""

import json
import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def reference_file():
    """A function from a path below the reference folder to the file; skips if it is absent."""
    folder = Path(os.environ.get("GDPO_JAX_REFERENCE_DATA", PROJECT.parent / "shared" / "data"))

    def locate(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no {name} under {folder}; set GDPO_JAX_REFERENCE_DATA to its folder")
        return path

    return locate


@pytest.fixture(scope="session")
def published_file(reference_file):
    """The path of the 79 published conversations."""
    return reference_file("saferec/saferec_sft_8k_dataset_test.json")


@pytest.fixture(scope="session")
def published_records(published_file):
    """The 79 published conversations, as they stand in the file."""
    return json.loads(published_file.read_text(encoding="utf-8"))["samples"]
