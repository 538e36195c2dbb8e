"""The gate in front of what belongs to a user: it opens where a text is likely enough to be his.

Thresholds come from people who are neither enrolled nor reported on (development users), never
from those whose rates are reported.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from experiments.persona_leakage.fingerprint.activation import threshold_for_acceptance
from gdpo_jax.errors import UserError

__all__ = ["Decision", "Gate", "choose_gate", "decide"]


@dataclasses.dataclass(frozen=True)
class Gate:
    """Opens at `threshold`; scores between `abstain` and it are no decision, those below it are
    somebody else's. A threshold above 1 never opens.

    Raises UserError unless 0 <= abstain <= threshold."""

    threshold: float
    abstain: float

    def __post_init__(self):
        if not 0 <= self.abstain <= self.threshold:
            raise UserError(
                f"a gate needs 0 <= abstain <= threshold, got {self.abstain} and {self.threshold}"
            )


Decision = bool | None  # opened, shut, or undecided, which is treated as shut and can be told apart


def decide(gate: Gate, value: float) -> Decision:
    """True at the threshold or above, None within the band, False below it."""
    if value >= gate.threshold:
        return True
    return None if value >= gate.abstain else False


def choose_gate(
    genuine: Float[np.ndarray, "G"],
    impostor: Float[np.ndarray, "I"],
    *,
    acceptance: float = 0.05,
    rejection: float = 0.05,
) -> Gate:
    """The gate that lets in at most a share `acceptance` of impostors and, of genuine attempts,
    says "somebody else" to at most a share `rejection`, both of development users.

    Raises UserError for no attempts of either kind, and shares outside [0, 1].
    """
    if not len(genuine):
        raise UserError("there are no genuine attempts; a gate is chosen on both kinds")
    if not 0 <= rejection <= 1:
        raise UserError(f"rejection must lie in [0, 1], got {rejection!r}")
    threshold = threshold_for_acceptance(impostor, acceptance)
    below = float(np.quantile(genuine, rejection, method="lower"))
    return Gate(threshold, min(below, threshold))
