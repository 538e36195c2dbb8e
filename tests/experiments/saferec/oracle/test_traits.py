import json

import pytest

from experiments.saferec.oracle.traits import (
    APPLICABILITIES,
    QUESTIONS,
    SEVERITIES,
    SEVERITY_CATEGORIES,
    TRAIT_KEYS,
    TRAITS,
    trait_named,
)
from gdpo_jax.errors import UserError


def test_table_is_complete():
    assert len(TRAITS) == 20
    assert len(set(TRAIT_KEYS)) == 20
    assert len({trait.slug for trait in TRAITS}) == 20
    assert len(SEVERITY_CATEGORIES) == 5
    assert SEVERITIES == ("None", "Mild", "Moderate", "Severe")
    for trait in TRAITS:
        assert len(trait.weights) == 5
        assert trait.applicability in APPLICABILITIES
        assert trait.questions
        assert len(set(trait.questions)) == len(trait.questions)


def test_seven_traits_rely_on_questions_alone():
    alone = [index + 1 for index, trait in enumerate(TRAITS) if sum(trait.weights) == 0]
    assert alone == [1, 2, 10, 12, 16, 17, 19]
    assert all(TRAITS[index - 1].applicability == "none" for index in alone)


def test_shared_questions():
    """A hospital scene, a kidnapping, a jump scare and gore each touch two traits."""
    shared = {
        question: [trait.slug for trait in TRAITS if question in trait.questions]
        for question in QUESTIONS
    }
    assert {q: slugs for q, slugs in shared.items() if len(slugs) > 1} == {
        "Is there excessive gore": ["gore", "horror"],
        "Is there blood/gore": ["gore", "horror"],
        "Is someone kidnapped": ["child-harm", "domestic-abuse"],
        "Is there a hospital scene": ["medical-trauma", "needles"],
        "Are there jumpscares": ["photosensitivity", "horror"],
    }


def test_lookup_by_key_and_slug():
    assert trait_named("Anti-gore / squeamish").slug == "gore"
    assert trait_named("horror").key == "Horror avoider (avoids scares & supernatural)"


@pytest.mark.parametrize("name", ["Anti-gore", "anti-gore / squeamish", "goer"])
def test_unknown_trait_suggests_the_closest(name):
    with pytest.raises(UserError) as raised:
        trait_named(name)
    message = str(raised.value)
    assert repr(name) in message
    assert "Did you mean 'Anti-gore / squeamish'?" in message
    assert all(key in message for key in TRAIT_KEYS)


@pytest.mark.parametrize("name", ["", "zzzz", None, 3])
def test_hopeless_names_list_the_legal_keys(name):
    with pytest.raises(UserError, match="Legal keys"):
        trait_named(name)


def test_equals_the_published_table(reference_file):
    path = reference_file("saferec/traits_with_imdb_parentguide_weights.json")
    published = json.loads(path.read_text(encoding="utf-8"))
    assert published["meta"]["imdb_parent_guide_categories"] == list(SEVERITY_CATEGORIES)
    assert published["meta"]["severity_to_int"] == {name: i for i, name in enumerate(SEVERITIES)}
    for ours, theirs in zip(TRAITS, published["traits"], strict=True):
        guide = theirs["imdb_parent_guide"]
        assert ours.key == theirs["trait"]
        assert list(ours.questions) == theirs["avoid"]
        assert ours.applicability == guide["pg_applicability"]
        assert list(ours.weights) == [guide["weights"][name] for name in SEVERITY_CATEGORIES]
