"""Small invented files in the published formats."""

import json
import pickle

from experiments.saferec.oracle.titles import map_key
from experiments.saferec.oracle.traits import SEVERITY_CATEGORIES, TRAITS
from tests.experiments.saferec.films import ANIMALS, GORE


def write(path, value):
    """Writes JSON; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def save_arrow(rows, folder):
    """Writes rows as a `save_to_disk` folder of two Arrow streams; returns the folder."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    files = []
    table = pa.Table.from_pylist(rows)
    half = (len(rows) + 1) // 2
    for index, part in enumerate((table.slice(0, half), table.slice(half))):
        file = f"data-{index:05d}-of-00002.arrow"
        path = str(folder / file)
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(part, max_chunksize=2)
        files.append({"filename": file})
    write(folder / "state.json", {"_data_files": files, "_split": folder.name})
    write(folder / "dataset_info.json", {})
    return folder


def trait_rows():
    return [
        {
            "trait": trait.key,
            "prefer": [],
            "avoid": list(trait.questions),
            "imdb_parent_guide": {
                "pg_applicability": trait.applicability,
                "weights": dict(zip(SEVERITY_CATEGORIES, trait.weights)),
            },
        }
        for trait in TRAITS
    ]


def row(number, trait=GORE, *, completion=True):
    """A published record: its target keeps two films of three."""
    made = {
        "prompt": [{"role": "user", "content": f"No {trait}. List films. USER: {number}"}],
        "seen_titles": ["Up"],
        "groundtruth_with_release_year": [["Quiet Harbour", "2004"], ["Big", "1988"]],
        "constraints": {trait: True},
        "assigned_trait": trait,
        "assignment_reason": "it violates most",
    }
    if completion:
        listed = "Quiet Harbour (2004)\nBig (1988)"
        text = f"<reasoning>\nno\n</reasoning>\n<solution>\n{listed}\n</solution>"
        made["completion"] = [{"role": "assistant", "content": text}]
    return made


SENSITIVITY = [
    {"imdbId": "01", "traits": {GORE: {"final": 0.9}, ANIMALS: {"final": 0.1}}},
    {"imdbId": "02", "traits": {GORE: {"final": 0.7}}},
    {"imdbId": "03", "traits": {GORE: {"final": 0.1}, ANIMALS: {"final": 1}}},
]
TITLES = [
    ("The Red Mill", 1999, "01"),
    ("Red Mill", 1960, "02"),
    ("Quiet Harbour", 2004, "03"),
    ("Big", 1988, "99"),
]
TITLE_MAP = {(map_key(title), year): imdb_id for title, year, imdb_id in TITLES}
CATALOGUE = [("The Red Mill", 1999), ("Quiet Harbour", 2004), ("Big", 1988)]


def publish(folder, *, arrow=True):
    """Writes a folder of all published files; returns it."""
    if arrow:
        for split, count in (("train", 5), ("validation", 2), ("test", 3)):
            rows = [row(i, ANIMALS if i % 2 else GORE) for i in range(count)]
            save_arrow(rows, folder / "processed_datasets" / "saferec_sft_dataset" / split)
        rows = [row(i, completion=False) for i in range(4)]
        save_arrow(rows, folder / "processed_datasets" / "saferec_grpo_dataset" / "train")
    write(folder / "movie_trait_sensitivity.json", SENSITIVITY)
    (folder / "title_to_imdb.pkl").write_bytes(pickle.dumps(TITLE_MAP))
    (folder / "gt_catalog_complete.pkl").write_bytes(pickle.dumps(CATALOGUE))
    write(folder / "traits_with_imdb_parentguide_weights.json", {"traits": trait_rows()})
    return folder


def raw_row(number, **fields):
    """A row of a raw trait assignment: no sentence yet, the teacher's list as it is."""
    return {
        "sample_id": f"train_{number}",
        "prompt": [{"role": "user", "content": f"USER: {number}"}],
        "completion": [{"role": "assistant", "content": "The Red Mill (1999)\nBig (1988)"}],
        "seen_titles": [],
        "groundtruth_with_release_year": [["Quiet Harbour", "2004"]],
        "assigned_trait": GORE,
        "assignment_success": True,
        "removed_groundtruth": [
            {"title": "The Red Mill", "year": "1999", "trait_info": {"final": 0.9}}
        ],
        **fields,
    }
