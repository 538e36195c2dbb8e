"""What an attacker changes, and what he leaves."""

import numpy as np
import pytest

from experiments.persona_leakage.fingerprint.attacks import impersonate, impersonations
from experiments.persona_leakage.fingerprint.problems import Problem
from gdpo_jax.errors import UserError

MINE = "I came. I saw! Did I win? Yes."
OWNER = ("To be honest, nobody knows.", "To be honest, nobody cares.")


def test_a_share_of_sentences_is_copied():
    rng = np.random.default_rng(0)
    changed = impersonate(MINE, OWNER, "copied", 0.5, rng)
    left = [s for s in ("I came.", "I saw!", "Did I win?", "Yes.") if s in changed]
    assert len(left) == 2
    assert changed.count("To be honest, nobody") == 2
    assert impersonate(MINE, OWNER, "copied", 0.0, rng) == MINE
    assert "I" not in impersonate(MINE, OWNER, "copied", 1.0, rng)


def test_sentences_begin_as_the_owner_s():
    changed = impersonate(MINE, OWNER, "phrases", 1.0, np.random.default_rng(0))
    assert changed == (
        "To be honest, i came. To be honest, i saw! To be honest, did I win? To be honest, yes."
    )


def test_only_impostors_are_changed_and_always_alike():
    found = [
        Problem(id="1", known=OWNER, unknown=MINE, same=True),
        Problem(id="2", known=OWNER, unknown=MINE, same=False),
    ]
    once, again = (impersonations(found, "copied", 0.5, seed=3) for _ in range(2))
    assert [problem.id for problem in once] == ["2"]
    assert once == again
    assert once[0].unknown != MINE


def test_what_cannot_be_changed_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="legal: copied, phrases"):
        impersonate(MINE, OWNER, "shouted", 0.5, rng)
    with pytest.raises(UserError, match="share must lie"):
        impersonate(MINE, OWNER, "copied", 1.5, rng)
    with pytest.raises(UserError, match="nothing that could be copied"):
        impersonate(MINE, (" ",), "copied", 0.5, rng)
