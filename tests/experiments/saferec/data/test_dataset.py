import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common.files.json_rows import write_rows
from experiments.saferec.data.dataset import (
    SPLIT_SIZES,
    build_dataset,
    load_records,
    load_table,
    split_names,
)
from experiments.saferec.published.readers import read_records
from gdpo_jax.errors import UserError


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_is_read_back(data_dir, conversations, invented_films):
    assert load_table(data_dir).items == invented_films
    for split, expected in conversations.items():
        assert load_records(data_dir, split) == expected
        assert len(expected) == SPLIT_SIZES[split]


# Of the records as JSON with sorted keys: the first 16 digits of their SHA-256.
DIGESTS = {
    "films": {
        "train": "e8035128bdfe1b5c",
        "validation": "5bdb0d7fa4851be7",
        "test": "18a5cf6468da1c16",
    },
    "games": {
        "train": "e449b900172d0f14",
        "validation": "858ca4e63cca2e9c",
        "test": "e1b1d5800e20561b",
    },
}


@pytest.mark.parametrize("domain", DIGESTS)
def test_the_embedded_conversations_are_those_of_all_published_numbers(data_dir, tmp_path, domain):
    if domain == "games":
        data_dir = tmp_path / "data"
        build_dataset(data_dir, domain)
    for split, digest in DIGESTS[domain].items():
        text = json.dumps(load_records(data_dir, split), sort_keys=True)
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_data_of_an_earlier_version_is_one_error(data_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    for path in (folder / "saferec").glob("*/2.0.0"):
        path.rename(path.with_name("1.0.0"))
    for use in (load_table, split_names, build_dataset, load_test):
        with pytest.raises(UserError, match=r"earlier version.*delete .*saferec and run .*data"):
            use(folder)


def test_the_files_are_array_records(data_dir):
    shards = [name for name in files_of(data_dir) if "array_record" in name]
    assert len(shards) >= 4


def test_an_existing_data_set_is_kept(data_dir):
    before = files_of(data_dir)
    sizes = build_dataset(data_dir)
    assert sizes == {"films": 640, **SPLIT_SIZES}
    assert files_of(data_dir) == before


@pytest.mark.slow
def test_tensorflow_is_never_imported(data_dir):
    code = (
        "import sys; from pathlib import Path; from experiments.saferec.data import dataset; "
        "folder = Path(sys.argv[1]); dataset.build_dataset(folder); dataset.load_table(folder); "
        "dataset.load_records(folder, 'test'); assert 'tensorflow' not in sys.modules"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run(
        [sys.executable, "-c", code, str(data_dir)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_folder_is_one_error_that_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"no SafeRec data in .*experiments\.saferec data"):
        load_records(tmp_path / "absent", "test")
    with pytest.raises(UserError, match="no SafeRec data in"):
        load_table(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_names_the_legal_ones(data_dir):
    with pytest.raises(UserError, match=r"no split 'dev'; it has \['test', 'train', 'val"):
        load_records(data_dir, "dev")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_one_error_and_nothing_is_overwritten(data_dir, tmp_path, keep):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    [shard] = folder.rglob("*conversations*/**/*test.array_record*")
    content = shard.read_bytes()
    shard.write_bytes(content[: int(keep * len(content))])
    before = files_of(folder)
    with pytest.raises(UserError, match=r"split 'test'.*delete .* and run"):
        load_records(folder, "test")
    build_dataset(folder)
    assert files_of(folder) == before


def test_a_damaged_description_is_one_error(data_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    for name, uses in (
        ("features.json", (load_test,)),
        ("dataset_info.json", (load_test, split_names, build_dataset)),
    ):
        [path] = folder.glob(f"*/conversations/*/{name}")
        path.write_text(path.read_text()[:40])
        before = files_of(folder)
        for use in uses:
            with pytest.raises(UserError, match=r"damaged .*delete .* and run"):
                use(folder)
        assert files_of(folder) == before


def load_test(folder):
    return load_records(folder, "test")


def test_records_as_json_lines_are_what_the_evaluation_reads(tmp_path, conversations):
    path = tmp_path / "records.jsonl"
    write_rows(path, conversations["validation"][:5])
    assert read_records(path) == json.loads(json.dumps(conversations["validation"][:5]))
