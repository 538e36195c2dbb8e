"""First turns of dialogues; answers only where there is no other turn."""

import gzip
import json

import pytest

from experiments.dcr.data.dialogues import read_dialogues
from gdpo_jax.errors import UserError


def turns(*texts):
    speakers = ("Human", "Assistant")
    return "".join(f"\n\n{speakers[n % 2]}: {text}" for n, text in enumerate(texts))


def write(path, *rows):
    lines = [json.dumps({"chosen": a, "rejected": b}) for a, b in rows]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "test.jsonl.gz"


def test_single_and_longer_dialogues(path):
    write(
        path,
        (turns("Hello", "Hi.", "Bye", "Good bye."), turns("Hello", "Hi.", "Bye", "Go.")),
        (turns("Say Human: no", "No."), turns("Say Human: no", "")),
        # Marks need not alternate.
        (turns("Hello", "Hi.") + "\n\nAssistant: Still here.", turns("Hello", "Hi.")),
    )
    longer, single, odd = read_dialogues(path)
    assert (longer.text, longer.type, longer.answer) == ("Hello", "multi-turn", "")
    assert (single.text, single.answer, single.rejected) == ("Say Human: no", "No.", "")
    assert (odd.type, odd.answer, odd.rejected) == ("multi-turn", "", "")
    assert [p.cluster for p in (longer, single, odd)] == ["hh-rlhf/0", "hh-rlhf/1", "hh-rlhf/0"]
    assert {p.kind for p in (longer, single, odd)} == {"toxic"}


@pytest.mark.parametrize(
    "wrong", ["Hello", turns("Hello"), turns(" ", "Hi."), "\n\nAssistant: Hi.", 3, None]
)
def test_what_is_no_dialogue_is_named(path, wrong):
    good = turns("Hello", "Hi.")
    write(path, (good, good), (good, wrong))
    with pytest.raises(UserError, match=r"test.jsonl.gz, row 1, field 'rejected': expected a dial"):
        read_dialogues(path)


def test_dialogues_of_a_row_begin_alike(path):
    write(path, (turns("Hello", "Hi."), turns("Hullo", "Hi.")))
    with pytest.raises(UserError, match="row 0: chosen and rejected begin with different turns"):
        read_dialogues(path)
