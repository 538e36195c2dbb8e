"""A model with one adapter for each of several users: an account's own one for its records, and the
bare base for everybody else."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from experiments.common.runs.arms import ModelReply
from gdpo_jax.errors import UserError
from gdpo_jax.policies import LoraConfig, Params, Policy, lora_policy
from gdpo_jax.policies.lora import ADAPTERS, BASE
from gdpo_jax.recipe import Model

__all__ = [
    "Adapted",
    "adapted_users",
    "bare",
    "by_user",
    "longest_of",
    "of_user",
    "personal",
]

USERS = "users"  # the branch of the parameters with the adapters by user
T = TypeVar("T")


def personal(model: Model, adapters: Mapping[str, Params], lora: LoraConfig) -> Model:
    """The model with users' adapters beside its parameters, one branch each. It computes what it
    did, until `of_user` names a user.

    Raises UserError for a model with adapters of its own.
    """
    if model.policy.trained is not None:
        raise UserError("this model has adapters already; merge them first: model.merged()")
    params = {BASE: model.params, USERS: dict(adapters)}
    return dataclasses.replace(model, policy=_personal_policy(model.policy, lora), params=params)


# Kept, so that models that are opened anew share their programs.
@functools.lru_cache(maxsize=8)
def _personal_policy(policy: Policy, lora: LoraConfig) -> Policy:
    """`lora_policy` that takes the parameters of `personal` as well, and of them the base."""
    alone = lora_policy(policy, lora)

    def own(function: Callable) -> Callable:
        def of(params: Params, *given: Any, **options: Any) -> Any:
            if ADAPTERS not in params:
                params = params.get(BASE, params)
            return function(params, *given, **options)

        return of

    return alone._replace(
        forward=own(alone.forward),
        output=own(alone.output),
        unroll=own(alone.unroll),
        split_layers=own(alone.split_layers),
        reference=None,
        # Nothing here is trained any further, and no single sum of base and adapters exists.
        trained=None,
        trained_config=None,
    )


def adapted_users(model: Model) -> tuple[str, ...]:
    """Whose adapters a `personal` model has. Raises UserError for another model."""
    if USERS not in model.params:
        raise UserError("this model has no adapters of users: personal(model, adapters, lora)")
    return tuple(sorted(model.params[USERS]))


def bare(model: Model) -> Model:
    """What strangers of a `personal` model talk to: the base alone. Raises as `adapted_users`."""
    adapted_users(model)
    return model.with_params({BASE: model.params[BASE]})


def of_user(model: Model, user: str) -> Model:
    """A `personal` model with this user's adapter alone; the base is not copied.

    Raises UserError for a user without one, and as `adapted_users`.
    """
    if user not in adapted_users(model):
        raise UserError(f"user {user!r} has no adapter; those who have: {adapted_users(model)}")
    return model.with_params({BASE: model.params[BASE], ADAPTERS: model.params[USERS][user]})


def by_user(
    model: Model,
    users: Sequence[str | None],
    of_model: Callable[[Model, list[int]], Sequence[T]],
    *,
    longest: Sequence[int],
) -> list[T]:
    """`of_model(model, places)`, one value for each place, in order: of users with an adapter under
    their own one, of all others under the bare base.

    longest: places of the longest texts. All calls with an adapter have the same number of places,
    these among them, so that one program serves all users; what they add is left out.
    """
    known = set(adapted_users(model))
    groups: dict[str | None, list[int]] = {}
    for place, user in enumerate(users):
        groups.setdefault(user if user in known else None, []).append(place)
    most = max((len(own) for user, own in groups.items() if user is not None), default=0)
    values: dict[int, T] = {}
    for user, own in groups.items():
        if user is None:
            found = of_model(bare(model), own)
        else:
            filling = [*longest, *[longest[0]] * (most - len(own))]
            found = of_model(of_user(model, user), [*own, *filling])[: len(own)]
        values |= dict(zip(own, found, strict=True))
    return [values[place] for place in range(len(users))]


@dataclasses.dataclass(frozen=True)
class Adapted:
    """A way to answer of a `PerUserAdapters` arm: a record's user is answered with his own adapter,
    and who has none, or is nobody known, by the bare base.

    verified: only where the verifier of writing takes the session for that user's as well
    (`recognised` of a record).
    """

    verified: bool = False

    def answer(self, reply: ModelReply, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """One text a record, in order. `reply` gives the model of `personal`."""
        if not records:
            return []
        prompts = [reply.encode(record["prompt"]) for record in records]

        def answers(model: Model, places: Sequence[int]) -> list[str]:
            return reply.of(model)([prompts[place] for place in places])

        users = [self._active(record) for record in records]
        longest = [longest_of(prompts)]
        return by_user(reply.model, users, answers, longest=longest)

    def _active(self, record: Mapping[str, Any]) -> str | None:
        user = record.get("user") or None
        return None if self.verified and record["recognised"] != user else user


def longest_of(rows: Sequence[Sequence[int]]) -> int:
    """The place of the longest row."""
    return max(range(len(rows)), key=lambda place: len(rows[place]))
