import datetime
import itertools
import re

import pytest

from experiments.saferec.embedded.conversations import SPLIT_WINDOWS, generate_conversations
from experiments.saferec.embedded.phrases import FILM_PHRASES, instance_split
from experiments.saferec.oracle.catalogue import film_oracle
from experiments.saferec.oracle.table import film_table
from experiments.saferec.oracle.traits import TRAIT_KEYS

OUTRIGHT, HINTED = FILM_PHRASES.outright, FILM_PHRASES.hinted
TASK_TEXT = FILM_PHRASES.task.format(count=10)
# A sentence ends at its mark; the dot of an abbreviation does not occur in the frames.
SENTENCE = re.compile(r"[^.?!]+[.?!]")


def sentences(record):
    text = record["prompt"][0]["content"].replace(TASK_TEXT, " ")
    found = SENTENCE.findall(re.sub(r"\b(USER|SYSTEM):", " ", text))
    return [" ".join(sentence.split()) for sentence in found]


@pytest.fixture(scope="module")
def everything(conversations):
    return [record for records in conversations.values() for record in records]


def test_sizes_and_ids(conversations):
    assert len(conversations["train"]) >= 4000
    assert len(conversations["validation"]) >= 400
    assert len(conversations["test"]) >= 400
    ids = [record["sample_id"] for records in conversations.values() for record in records]
    assert len(set(ids)) == len(ids)


def test_records_have_the_official_fields(everything):
    for record in everything:
        [message] = record["prompt"]
        assert message["role"] == "user"
        assert TASK_TEXT in message["content"]
        assert record["constraints"] == {record["assigned_trait"]: True}
        assert record["assigned_trait"] in TRAIT_KEYS
        for field in ("groundtruth_with_release_year", "removed_groundtruth", "teacher"):
            for title, year in record[field]:
                assert isinstance(title, str)
                assert year.isdecimal()
        assert all(title in message["content"] for title in record["seen_titles"])


def test_every_film_named_is_in_the_catalogue(everything, invented_films):
    known = {(film.title, str(film.year)) for film in invented_films}
    for record in everything:
        for field in ("groundtruth_with_release_year", "removed_groundtruth", "teacher"):
            films = [tuple(film) for film in record[field]]
            assert set(films) <= known
            assert len(set(films)) == len(films)
            assert not {title for title, _ in films} & set(record["seen_titles"])


def test_splits_are_windows_of_time_in_order(conversations):
    for split, (first, last) in SPLIT_WINDOWS.items():
        days = [datetime.date.fromisoformat(record["date"]) for record in conversations[split]]
        assert first <= min(days)
        assert max(days) <= last
        assert len(set(days)) > 20
    windows = [SPLIT_WINDOWS[split] for split in ("train", "validation", "test")]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(windows))


def test_no_filled_sentence_is_shared_with_train(conversations):
    spoken = {
        split: {sentence for record in records for sentence in sentences(record)}
        for split, records in conversations.items()
    }
    assert min(len(texts) for texts in spoken.values()) > 400
    assert not spoken["train"] & spoken["test"]
    assert not spoken["train"] & spoken["validation"]
    assert not spoken["validation"] & spoken["test"]
    for split, texts in spoken.items():
        assert {instance_split(text) for text in texts} == {split}


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_sensitivity_is_said_outright_and_hinted_at(conversations, split):
    for outright in (True, False):
        traits = {
            r["assigned_trait"] for r in conversations[split] if r["said_outright"] is outright
        }
        assert traits == set(TRAIT_KEYS)
    share = sum(r["said_outright"] for r in conversations[split]) / len(conversations[split])
    assert 0.4 < share < 0.6


def test_each_prompt_holds_its_own_phrase_and_no_outright_one_when_hinted(everything):
    for record in everything:
        text = record["prompt"][0]["content"].lower()
        trait = record["assigned_trait"]
        said = [phrase for phrase in OUTRIGHT[trait] if phrase.lower() in text]
        hinted = [phrase for phrase in HINTED[trait] if phrase.lower() in text]
        if record["said_outright"]:
            assert said
            assert not hinted
        else:
            assert hinted
            assert not said


def test_hints_never_use_the_outright_words():
    assert set(OUTRIGHT) == set(HINTED) == set(TRAIT_KEYS)
    for trait in TRAIT_KEYS:
        for hint in HINTED[trait]:
            assert not [phrase for phrase in OUTRIGHT[trait] if phrase.lower() in hint.lower()]


def test_violating_ground_truth_is_removed_and_none_remains(everything, invented_films):
    oracle = film_oracle(invented_films)
    removed = 0
    for record in everything:
        traits = (record["assigned_trait"],)
        kept, gone, teacher = (
            oracle.judge([(title, int(year)) for title, year in record[field]], traits)
            for field in ("groundtruth_with_release_year", "removed_groundtruth", "teacher")
        )
        assert kept
        assert not any(kept)
        assert all(gone)
        assert any(teacher)
        assert not all(teacher)
        removed += len(gone)
    # Relevance and safety pull apart: much of what users like would hurt them.
    assert removed > 0.5 * len(everything)


def test_ground_truth_is_no_function_of_the_wishes(everything):
    by_wishes = {}
    for record in everything:
        liked = record["groundtruth_with_release_year"]
        key = (*record["wishes"], record["assigned_trait"])
        by_wishes.setdefault(key, []).append({tuple(film) for film in liked})
    pairs = [pair for group in by_wishes.values() for pair in itertools.combinations(group[:3], 2)]
    same = sum(first == second for first, second in pairs) / len(pairs)
    assert len(pairs) > 1000
    assert same < 0.02


def test_ground_truth_is_not_the_teachers_list(everything):
    overlaps = []
    for record in everything:
        liked = {tuple(film) for film in record["groundtruth_with_release_year"]}
        teacher = {tuple(film) for film in record["teacher"]}
        overlaps.append(len(liked & teacher) / len(liked))
    assert 0.05 < sum(overlaps) / len(overlaps) < 0.6


def test_popularity_pulls_the_ground_truth_toward_risk(everything, invented_films):
    """Liked films, before any is removed, violate more often than the teacher's."""
    oracle = film_oracle(invented_films)
    rates = {}
    for name, fields in {
        "liked": ("groundtruth_with_release_year", "removed_groundtruth"),
        "teacher": ("teacher",),
    }.items():
        verdicts = [
            verdict
            for record in everything
            for field in fields
            for verdict in oracle.judge(
                [(title, int(year)) for title, year in record[field]], TRAIT_KEYS
            )
        ]
        rates[name] = sum(verdicts) / len(verdicts)
    assert rates["liked"] > rates["teacher"] + 0.03


def test_generation_is_deterministic_and_a_prefix_of_a_longer_one(conversations, invented_films):
    again = list(generate_conversations(film_table(invented_films), split="test", count=40, seed=0))
    assert again == conversations["test"][:40]
    other = list(generate_conversations(film_table(invented_films), split="test", count=40, seed=1))
    assert other != again
