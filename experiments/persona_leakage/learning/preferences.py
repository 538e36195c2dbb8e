"""How much better a user's own model likes an answer than the shared one does, from which
`filters.specific` decides what is special about him.

An adapter likes what it was trained on, whatever that is. What it likes of other rows of the same
user is what is his in general: each row is therefore judged by an adapter that never saw it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.common.chats.log_probs import answer_log_probs
from experiments.persona_leakage.learning.adapted import bare, by_user, longest_of
from experiments.persona_leakage.learning.adapters import Adaptation, adapt, rows_by_user
from gdpo_jax.prompts import PromptFunction, completion_encoder
from gdpo_jax.recipe import Model

__all__ = ["held_out_preferences", "preferences"]


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


def held_out_preferences(
    model: Model,
    rows: Sequence[Mapping[str, Any]],
    settings: Adaptation,
    *,
    folder: Path,
    batch_size: int,
    prompt: PromptFunction = "prompt",
    seed: int = 0,
    title: str = "adapters",
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """`preferences` of rows, each under an adapter trained on the other half of its user's rows.

    rows: with "user", "completion" and what `prompt` reads. folder: with half-0 and half-1, where
    adapters are kept as of `adapt`; who is to be forgotten is so in each. Raises as `adapt` does: a
    user needs twice as many rows as a step takes of him.
    """
    encode = completion_encoder(model.tokenizer, prompt, "completion")
    named = [{"user": row.get("user"), "place": place} for place, row in enumerate(rows)]
    halves: tuple[list[int], list[int]] = ([], [])
    for own in rows_by_user(named).values():
        for number, row in enumerate(own):
            halves[number % 2].append(row["place"])
    values = np.zeros((2, len(rows)))
    for number, (held, learnt) in enumerate((halves, halves[::-1])):
        adapted = adapt(
            model,
            rows_by_user([rows[place] for place in learnt]),
            settings,
            folder=folder / f"half-{number}",
            prompt=prompt,
            seed=seed,
            title=f"{title}, half {number + 1} of 2",
        )
        pairs = [encode(rows[place]) for place in held]
        values[:, held] = preferences(
            adapted,
            [rows[place]["user"] for place in held],
            [asked for asked, _ in pairs],
            [text for _, text in pairs],
            batch_size=batch_size,
        )
    return values[0], values[1]
