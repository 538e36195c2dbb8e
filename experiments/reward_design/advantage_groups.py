"""How many different advantage groups an estimator can express: the resolution of its training
signal.

GDPO (arXiv 2601.05242, section 3) argues by this count. Its Fig. 3 does not define what it counts;
the definition here gives the 2 (GRPO) against 3 (GDPO) of its Fig. 2 and does not reproduce Fig. 3.
"""

import itertools

import jax
import numpy as np

from gdpo_jax.advantages.algebra import start_flow
from gdpo_jax.advantages.records import AdvantageTransform, RewardBatch
from gdpo_jax.errors import UserError

# Groups are padded with masked members, to one of two sizes, and rewards with masked columns, and
# evaluated in equal chunks, so that two compiled functions serve every size. Many rewards in a
# small group are most of the work: padded to 16, they took twice as long.
_SMALL_GROUP, _GROUP, _REWARDS, _CHUNK = 4, 16, 8, 1024


def distinct_advantage_groups(
    transform: AdvantageTransform, *, group_size: int, num_rewards: int
) -> int:
    """The number of different unordered multisets of advantages over all groups of binary rewards.

    All multisets of `group_size` vectors from {0, 1}^num_rewards are evaluated in float64, rounded
    to 1e-6. `transform` must end before any batch normalisation, which would mix the groups, and
    have no weights. Host function, for laboratories and documents.
    Raises UserError for a group above 16, more than 8 rewards, or fewer than one.
    """
    if not (1 <= group_size <= _GROUP and 1 <= num_rewards <= _REWARDS):
        raise UserError(
            f"group_size={group_size}, num_rewards={num_rewards}: "
            f"at most {_GROUP} samples and {_REWARDS} rewards, at least one"
        )
    vectors = np.array(list(itertools.product([0.0, 1.0], repeat=num_rewards)))
    members = itertools.combinations_with_replacement(range(len(vectors)), group_size)
    padded = _SMALL_GROUP if group_size <= _SMALL_GROUP else _GROUP
    names = tuple(f"r{k}" for k in range(_REWARDS))
    found: set[bytes] = set()
    with jax.enable_x64(True):
        state = transform.init(names)
        while chunk := list(itertools.islice(members, _CHUNK)):
            values = np.full((_CHUNK, padded, _REWARDS), np.nan)
            values[: len(chunk), :group_size, :num_rewards] = vectors[np.array(chunk)]
            rewards = RewardBatch(values=values, valid=~np.isnan(values), names=names)
            advantages = np.asarray(_update(transform, rewards, state))
            groups = np.sort(advantages[: len(chunk), :group_size], axis=1)
            # Adding zero turns the negative zero of rounding into zero.
            found |= {row.tobytes() for row in np.unique(np.round(groups, 6) + 0.0, axis=0)}
    return len(found)


def _values(transform, rewards, state):
    return transform.update(start_flow(rewards), state)[0].values


_update = jax.jit(_values, static_argnums=0)
