"""How much better a user's own model likes an answer than the shared one does, from which
`filters.specific` decides what is special about him."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.common.chats.log_probs import answer_log_probs
from experiments.persona_leakage.learning.adapted import bare, by_user, longest_of
from gdpo_jax.recipe import Model

__all__ = ["preferences"]


def preferences(
    model: Model,
    users: Sequence[str],
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    batch_size: int,
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """log pi_u(y) under each record's user's own adapter, and log pi(y) under the base, in nats.

    model: of `personal`. Prompts and answers as token ids. Of a user without an adapter both are
    equal.
    """
    if not prompts:
        return np.zeros(0), np.zeros(0)

    def of_model(model: Model, places: Sequence[int]) -> list[float]:
        found = answer_log_probs(
            model,
            [prompts[place] for place in places],
            [[answers[place]] for place in places],
            batch_size=batch_size,
        )
        return found[:, 0].tolist()

    longest = [longest_of(prompts), longest_of(answers)]
    own = by_user(model, users, of_model, longest=longest)
    return np.array(own), np.array(of_model(bare(model), list(range(len(prompts)))))
