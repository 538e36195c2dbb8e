"""The direction between two groups of prompts in the hidden states of a model: the difference of
their means (arXiv 2406.11717, section 2.3, equation 2).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.dcr.data.prompts import KINDS
from gdpo_jax.errors import UserError
from gdpo_jax.prompts import Prompt, PromptFunction

__all__ = ["check_groups", "mean_difference", "of_groups"]


def check_groups(above: Sequence[str], below: Sequence[str]) -> None:
    """Raises UserError for groups of kinds that are empty, unknown or overlap."""
    for kinds in (above, below):
        if not kinds or any(kind not in KINDS for kind in kinds):
            raise UserError(f"a group of kinds {tuple(kinds)!r}; legal: {', '.join(KINDS)}")
    if both := [kind for kind in above if kind in below]:
        raise UserError(f"kind {both[0]!r} stands in both groups; leave it out of one")


def of_groups(
    examples: Sequence[Mapping[str, Any]],
    above: Sequence[str],
    below: Sequence[str],
    prompt: PromptFunction,
    *,
    what: str = "examples",
) -> tuple[list[Mapping[str, Any]], list[Prompt], Bool[np.ndarray, "N"]]:
    """The rows of both groups, what `prompt` reads of them, and which are of the first group.

    Raises UserError for a row without a legal kind, and a kind without a row.
    """
    for number, row in enumerate(examples):
        if row.get("kind") not in KINDS:
            raise UserError(
                f"row {number} of {what} has kind {row.get('kind')!r}; legal: {', '.join(KINDS)}"
            )
    found = {row["kind"] for row in examples}
    for kind in (*above, *below):
        if kind not in found:
            raise UserError(
                f"no row of {what} is of kind {kind!r}, which a direction is made of; there are "
                f"{', '.join(sorted(found)) or 'no rows'}"
            )
    rows = [row for row in examples if row["kind"] in (*above, *below)]
    read = prompt if callable(prompt) else lambda row: row[prompt]
    return rows, [read(row) for row in rows], np.array([row["kind"] in above for row in rows])


def mean_difference(
    states: Float[np.ndarray, "N D"], above: Bool[np.ndarray, "N"], *, where: str
) -> tuple[Float[np.ndarray, "D"], float]:
    """The unit vector from the mean of the other states to that of the states `above`, and how far
    they are apart, float64.

    where: names the states. Raises UserError for means that coincide, and states that are not
    finite.
    """
    wide = np.asarray(states, np.float64)
    if not np.isfinite(wide).all():
        raise UserError(f"the states {where} are not finite: the model's weights are damaged")
    difference = wide[above].mean(axis=0) - wide[~above].mean(axis=0)
    norm = float(np.linalg.norm(difference))
    # Below the rounding of float32 states, the direction would be that of the rounding.
    if norm <= 1e-6 * float(np.linalg.norm(wide, axis=1).mean()):
        raise UserError(
            f"the means of both groups of prompts coincide {where}, so that there is no direction "
            "between them; choose another layer or other kinds"
        )
    return difference / norm, norm
