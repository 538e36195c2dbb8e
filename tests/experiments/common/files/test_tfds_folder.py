"""A data set of TFDS on disk: found, read in order, and damage named with the way out."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments.common.files.tfds_folder import (
    find_config,
    open_builder,
    read_config,
    to_text,
    to_texts,
)
from gdpo_jax.errors import UserError

REBUILD = "build it again"


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Four rows."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="rows", description="Rows.")]  # noqa: RUF012

    def _info(self):
        text = tfds.features.Text()
        features = {
            "position": np.int64,
            "texts": tfds.features.Sequence(text),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for n in (2, 0, 3, 1):
            yield str(n), {"position": n, "texts": ["ä", f"text {n}"]}


@pytest.fixture
def data(tmp_path):
    builder = Tiny(data_dir=str(tmp_path), file_format="array_record", config="rows")
    builder.download_and_prepare()
    return tmp_path


def test_rows_come_in_order(data):
    folder = find_config(data, "rows")
    rows = read_config(folder, "train", rebuild=REBUILD)
    assert [to_texts(row["texts"]) for row in rows] == [("ä", f"text {n}") for n in range(4)]
    assert to_text(b"\xc3\xa4") == to_text("ä") == "ä"
    assert list(open_builder(folder, rebuild=REBUILD).info.splits) == ["train"]
    assert find_config(data, "films") is None
    with pytest.raises(UserError, match=r"no split 'test'; it has \['train'\]"):
        read_config(folder, "test", rebuild=REBUILD)


def test_damage_names_the_way_out(data):
    folder = find_config(data, "rows")
    hint = f"delete {data / 'tiny'} and build it again"
    [records] = folder.glob("*.array_record*")
    whole = records.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        records.write_bytes(damaged)
        with pytest.raises(UserError, match="split 'train': ") as raised:
            read_config(folder, "train", rebuild=REBUILD)
        assert str(raised.value).endswith(hint)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="damaged description") as raised:
        open_builder(folder, rebuild=REBUILD)
    assert str(raised.value).endswith(hint)


def test_two_of_a_config_are_refused(data):
    other = data / "other" / "rows" / "1.0.0"
    other.mkdir(parents=True)
    (other / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="has rows twice"):
        find_config(data, "rows")
