"""Problems out of messages: whose they are, and what is left out."""

import numpy as np
import pytest

from experiments.persona_leakage.fingerprint.messages import problems_of_users
from gdpo_jax.errors import UserError

MESSAGES = {user: [f"{user} says {n}" for n in range(4)] + ["ok", " ok"] for user in "abc"}


def test_each_problem_is_about_one_user():
    found = problems_of_users(MESSAGES, known=2, each=3, rng=np.random.default_rng(0))
    assert len(found) == 3 * 3 * 2
    for problem in found:
        user = problem.id[0]
        assert all(text.startswith(f"{user} says") for text in problem.known)
        assert len(set(problem.known)) == 2 and problem.unknown not in problem.known
        assert problem.unknown.startswith(f"{user} says") == problem.same
    assert len({problem.id for problem in found}) == len(found)


def test_too_little_to_make_problems_of():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="'a' has 4 messages of his own; problems need 5"):
        problems_of_users(MESSAGES, known=4, rng=rng)
    with pytest.raises(UserError, match="two users or more, got 1"):
        problems_of_users({"a": MESSAGES["a"]}, known=1, rng=rng)
    with pytest.raises(UserError, match="at least 1"):
        problems_of_users(MESSAGES, known=0, rng=rng)
