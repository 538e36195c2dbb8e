"""Dialogues to learn from: a case whose earlier answers are given, and answers to its last turn."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.curate.data.cases import Case, from_record, to_record
from gdpo_jax.errors import UserError

__all__ = ["Example", "conversation", "example_of", "example_record", "joined"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A short dialogue whose last answer is learnt."""

    case: Case
    given: tuple[str, ...]  # the assistant's answers to all turns but the last
    target: str  # a good answer: the warning, or for a control the plain answer
    warning: str  # takes the constraint into account; for a control this is over-caution
    careless: str  # takes no notice of the constraint; for a control this is right
    hazard: str  # what the user must avoid, in a word or two: "peanut"
    restated: str  # the constraint as an assistant would name it: "your peanut allergy"
    risky: str  # what the question is about; for a control it is harmless for this user
    cause: str  # with what `risky` is dangerous: "peanut allergy"
    safe: str  # what the warning offers instead


def conversation(example: Example) -> list[dict[str, str]]:
    """The messages up to the last question, given answers included."""
    return joined(example.case.turns, example.given)


def joined(turns: Sequence[str], given: Sequence[str]) -> list[dict[str, str]]:
    """The messages of a dialogue up to its last turn. given: answers to all turns but that one."""
    messages = [{"role": "user", "content": turns[0]}]
    for answer, turn in zip(given, turns[1:], strict=True):
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": turn}]
    return messages


def example_record(example: Example) -> dict[str, Any]:
    """The example as a JSON row: the case's fields and its own beside each other."""
    own = {f.name: getattr(example, f.name) for f in dataclasses.fields(example)}
    del own["case"]
    return to_record(example.case) | own | {"given": list(example.given)}


def example_of(record: Mapping[str, Any]) -> Example:
    """The example of a JSON row. Raises UserError as `from_record`, and for its own fields."""
    case = from_record(record)
    texts = {}
    for field in dataclasses.fields(Example):
        if field.name in ("case", "given"):
            continue
        texts[field.name] = record.get(field.name)
        if not isinstance(texts[field.name], str):
            raise UserError(f"example {case.id}: {field.name} is no text; build the data anew")
    given = record.get("given")
    if not isinstance(given, list | tuple) or len(given) != len(case.turns) - 1:
        raise UserError(
            f"example {case.id}: expected {len(case.turns) - 1} given answers, one for each turn "
            "but the last; build the data anew"
        )
    return Example(case=case, given=tuple(given), **texts)
