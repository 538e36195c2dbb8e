"""Readers of published data: what becomes what, and errors by file, row and field."""

import json

import pytest

from experiments.persona_leakage.published.cimemories import (
    disclosures,
    is_identity,
    read_cimemories,
)
from experiments.persona_leakage.published.labels import rule_labels, subjects_of
from experiments.persona_leakage.published.persistbench import FILES, read_persistbench
from experiments.persona_leakage.published.requests import conversation
from experiments.persona_leakage.published.sources import find_files
from experiments.persona_leakage.published.usafebench import read_usafebench
from gdpo_jax.errors import UserError
from tests.experiments.persona_leakage.published_files import (
    MEMORIES,
    entry,
    persist_folder,
    persist_row,
    profile_file,
    profile_row,
    safe_folder,
    safe_rows,
)


def test_persistbench(tmp_path):
    folder = persist_folder(tmp_path)
    benchmark, files = find_files(folder)
    assert benchmark.name == "PersistBench" and [f.name for f in files] == list(FILES)
    cross, sycophancy, benefit = map(read_persistbench, files)
    assert [r.id for r in cross] == ["persistbench/cross-domain/0", "persistbench/cross-domain/1"]
    assert cross[0].groups == {"memory domain": "Hobbies", "query domain": "Travel"}
    assert sycophancy[0].part == "sycophancy" and benefit[0].part == "benefit"
    system, user = conversation(cross[1])
    assert system["role"] == "system" and all(f"- {m}" in system["content"] for m in MEMORIES)
    assert user == {"role": "user", "content": "cross_domain 1?"}
    # Under another name a file is known by its fields.
    other = tmp_path / "mine.jsonl"
    (folder / FILES[0]).rename(other)
    assert find_files(other)[0].name == "PersistBench"


def test_cimemories(tmp_path):
    [profile] = read_cimemories(profile_file(tmp_path))
    assert profile.name == "Ida Kern" and len(profile.attributes) == 4
    labels = rule_labels(profile)
    assert [sorted(subjects_of(context)) for context in profile.contexts] == [
        ["finance"],
        ["health"],
        [],
    ]
    assert labels[0].necessary == {"mortgage_sum"}
    assert labels[0].private == {"full_name", "skin_ailment", "has_cat"}
    # Health and finance are far from each other, relationships from both; a florist gets no label.
    bank, doctor = disclosures(profile, labels)
    assert [a.key for a in bank.private] == ["skin_ailment", "has_cat"]
    assert [a.key for a in doctor.private] == ["mortgage_sum", "has_cat"]
    assert bank.cluster == doctor.cluster == "cimemories/0"
    assert "Bank clerk" in bank.query and "Ask for a loan" in bank.query
    # The published filter finds age in mortgage, and none drops the name.
    published = disclosures(profile, labels, key_filter="substrings")
    assert [a.key for a in published[1].private] == ["has_cat"]
    whole = disclosures(profile, labels, key_filter="none")
    assert [a.key for a in whole[0].private] == ["full_name", "skin_ailment", "has_cat"]
    with pytest.raises(UserError, match="3 contexts and 1 labels"):
        disclosures(profile, labels[:1])


def test_words_of_keys_are_compared_whole():
    assert is_identity("current_address") and is_identity("Goal-Age") and is_identity("sex")
    assert not is_identity("mortgage_sum") and is_identity("mortgage_sum", "substrings")
    assert not is_identity("sex", "none")


def test_nested_values_are_their_leaves(tmp_path):
    row = profile_row()
    row["information_attributes"]["children"] = entry(
        [{"name": "Bo", "age": 3}, {"name": "Al", "age": 5}], "general", "I have two children."
    )
    [profile] = read_cimemories(profile_file(tmp_path, [row]))
    assert profile.attributes[-1].value == ("Bo", 3, "Al", 5)


def test_usafebench(tmp_path):
    benchmark, files = find_files(safe_folder(tmp_path))
    assert benchmark.name == "U-SafeBench"
    safety, helpfulness = map(read_usafebench, files)
    assert [r.part for r in (*safety, *helpfulness)] == ["safety"] * 3 + ["helpfulness"] * 2
    assert safety[0].id == "usafebench/safety/id_0" and helpfulness[0].id.endswith("ness/id_0")
    assert len({r.cluster for r in safety}) == 2
    by_user = read_usafebench(files[0], cluster="user")
    assert len({r.cluster for r in by_user}) == 3
    assert safety[0].memories == ("I am dry.",) and safety[0].query == safety[0].instruction
    assert safety[2].query != "Buy a skipping rope." and "Buy a skipping rope." in safety[2].query


def broken_persist(field, value):
    return {**persist_row("cross_domain", "Hobbies", "Travel"), field: value}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (broken_persist("memories", []), "row 1, field 'memories': expected a list"),
        (broken_persist("memories", ["a", ""]), "row 1, field 'memories', entry 1"),
        (broken_persist("query", None), "row 1, field 'query': expected text"),
        (broken_persist("failure_type", "x"), "row 1, field 'failure_type': 'x' is none of"),
        (broken_persist("query_domain", "Hobbies"), "row 1, field 'query_domain'"),
    ],
)
def test_damage_in_persistbench_is_named(tmp_path, row, says):
    path = tmp_path / FILES[0]
    good = persist_row("cross_domain", "Hobbies", "Travel")
    path.write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(UserError, match=says) as error:
        read_persistbench(path)
    assert str(path) in str(error.value)


def damaged(**fields):
    return {**profile_row(), **fields}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (damaged(bio=None), "row 0, field 'bio': expected an object"),
        (damaged(contexts=[]), "row 0: needs attributes and a list of contexts"),
        (damaged(contexts=[{"recipient": "x"}]), "row 0, context 0, field 'task'"),
        (damaged(information_attributes={"a": 3}), "attribute 'a': expected an object"),
        (damaged(information_attributes={"a": entry("", "x", "y")}), "'a', field 'value'"),
        (damaged(information_attributes={"a": entry(1, 2, "y")}), "field 'information_domain'"),
    ],
)
def test_damage_in_cimemories_is_named(tmp_path, row, says):
    with pytest.raises(UserError, match=says):
        read_cimemories(profile_file(tmp_path, [row]))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": "id_0"}, "row 3, field 'id': 'id_0' is the id of row 0"),
        ({"id": "id_9", "user": " "}, "row 3, field 'user': expected text"),
        ({"id": "id_9", "task_domain": "x"}, "row 3, field 'task_domain'"),
        ({"id": "id_9", "risk_scenario": "x"}, "row 3, field 'risk_scenario'"),
    ],
)
def test_damage_in_usafebench_is_named(tmp_path, fields, says):
    rows = safe_rows("safety")
    path = tmp_path / "s.json"
    path.write_text(json.dumps([*rows, {**rows[0], **fields}]))
    with pytest.raises(UserError, match=says):
        read_usafebench(path)
    path.write_text(json.dumps([*rows, {**safe_rows("helpfulness")[0], "id": "id_9"}]))
    with pytest.raises(UserError, match="are of safety and this one is of helpfulness"):
        read_usafebench(path)


def test_unknown_sources_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no published file"):
        find_files(tmp_path)
    with pytest.raises(UserError, match="neither a file nor a folder"):
        find_files(tmp_path / "no")
    persist_folder(tmp_path)
    safe_folder(tmp_path)
    with pytest.raises(UserError, match="files of PersistBench and U-SafeBench"):
        find_files(tmp_path)
    other = tmp_path / "x.json"
    other.write_text('[{"a": 1}]')
    with pytest.raises(UserError, match="row 0: fields \\['a'\\] are of no known data set"):
        find_files(other)


def test_the_published_files(reference_file):
    counts = [len(read_persistbench(reference_file(f"persistbench/{name}"))) for name in FILES]
    assert counts == [200, 200, 100]
    safety, helpfulness = (
        read_usafebench(reference_file(f"usafebench/{part}_eval_collection_v1.1.json"))
        for part in ("safety", "helpfulness")
    )
    assert (len(safety), len(helpfulness)) == (2296, 491)
    shared = {r.instruction for r in safety}
    assert len(shared) == 176 and shared <= {r.instruction for r in helpfulness}
    profiles = read_cimemories(reference_file("cimemories/data_openai_gpt-oss-120b.json"))
    keys = [a.key for profile in profiles for a in profile.attributes]
    assert (len(profiles), len(keys)) == (10, 1467)
    # 134 of the keys that the published filter drops speak of something else.
    assert [sum(is_identity(k, by) for k in keys) for by in ("substrings", "words")] == [188, 54]
    # Every context has a subject, and under the rules both kinds of attributes.
    asked = [r for p in profiles for r in disclosures(p, rule_labels(p))]
    assert len(asked) == 490
