"""SafeRec's published files, read in place, and its embedded data."""

import json

import pytest

from experiments.saferec.data.dataset import SPLIT_SIZES, build_dataset
from experiments.saferec.embedded.conversations import SPLIT_WINDOWS, generate_conversations
from experiments.saferec.embedded.films import invent_films
from experiments.saferec.oracle.table import film_table


@pytest.fixture(scope="session")
def published_file(reference_file):
    """The path of the 79 published conversations."""
    return reference_file("saferec/saferec_sft_8k_dataset_test.json")


@pytest.fixture(scope="session")
def published_records(published_file):
    """The 79 published conversations, as they stand in the file."""
    return json.loads(published_file.read_text(encoding="utf-8"))["samples"]


@pytest.fixture(scope="session")
def invented_films():
    """The embedded catalogue."""
    return invent_films()


@pytest.fixture(scope="session")
def conversations(invented_films):
    """The embedded conversations by split, as they are generated."""
    table = film_table(invented_films)
    return {
        split: list(generate_conversations(table, split=split, count=SPLIT_SIZES[split], seed=0))
        for split in SPLIT_WINDOWS
    }


@pytest.fixture(scope="session")
def data_dir(made_once):
    """The embedded data set on disk, to be read only."""
    return made_once("saferec", lambda folder: build_dataset(folder / "data")) / "data"
