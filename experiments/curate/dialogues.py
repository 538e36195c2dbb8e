"""Dialogues held with a model: turn by turn, all of them together."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.common.chats.model import Answer, Bill, Limits, Model, bill_of
from experiments.curate.data.cases import Case, from_record, to_record
from experiments.curate.given_answers import GIVEN, turn_name
from experiments.curate.judging.judged import Judged
from experiments.curate.ways import Turn, Way
from gdpo_jax.errors import UserError

__all__ = ["LIMITS", "Dialogue", "dialogue_of", "dialogue_row", "hold", "total_bills"]

# CURaTe (arXiv 2410.21159): at most 100 tokens of an answer at temperature 0.7, whoever answers.
LIMITS = Limits(max_new_tokens=100, temperature=0.7, seed=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A dialogue as far as it came, and what it has used, whether paid for now or earlier."""

    case: Case
    answers: tuple[str, ...]  # to the turns, in order; fewer than turns where it failed
    failed: str = ""  # why it ended early: then it is listed, and never judged
    narratives: tuple[str, ...] = ()  # the way's, after each turn
    tokens: int | None = None  # of the last answer, where the model tells
    reason: str = ""  # why the last answer ended: "stop", "length" or another
    bills: Mapping[str, Bill] = dataclasses.field(default_factory=dict)  # by component
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)  # waited, by component
    errors: tuple[str, ...] = ()  # of parts besides the talker, which end no dialogue

    @property
    def judged(self) -> Judged:
        """What a judge sees of it."""
        return Judged(case=self.case, answer=self.answers[-1])


@dataclasses.dataclass
class _Open:
    """A dialogue that is being held."""

    case: Case
    state: Any
    history: list[dict[str, str]] = dataclasses.field(default_factory=list)
    turns: list[Turn] = dataclasses.field(default_factory=list)
    failed: str = ""


def hold(
    model: Model, cases: Sequence[Case], way: Way, limits: Limits = LIMITS
) -> tuple[list[Dialogue], dict[str, Bill]]:
    """The dialogues of the cases, in order, and what they cost this time, by component.

    A turn of all dialogues is asked at once. A dialogue that gets no answer, after the model's own
    retries and, for an empty one, a second draw, is marked as failed; the others go on.

    Raises `UserError` for two cases with one id.
    """
    if len({case.id for case in cases}) != len(cases):
        raise UserError("two cases have the same id; build the cases anew")
    dialogues = [_Open(case, way.start()) for case in cases]
    for number in range(max((len(case.turns) for case in cases), default=0)):
        going = [d for d in dialogues if not d.failed and number < len(d.case.turns)]
        for one in going:
            one.history.append({"role": "user", "content": one.case.turns[number]})
        turns = way.turn(
            model,
            [one.state for one in going],
            [list(one.history) for one in going],
            limits,
            [turn_name(one.case.id, number) for one in going],
        )
        for one, turn in zip(going, turns, strict=True):
            _take(one, turn)
    calls = [call for one in dialogues for turn in one.turns for call in turn.calls]
    return [_closed(one) for one in dialogues], _bills(calls)


def total_bills(bills: Iterable[Mapping[str, Bill]]) -> dict[str, Bill]:
    """The sums over bills, by component."""
    total: dict[str, Bill] = {}
    for by_component in bills:
        for component, bill in by_component.items():
            known = total.get(component)
            total[component] = bill if known is None else _plus(known, bill)
    return total


def dialogue_row(dialogue: Dialogue) -> dict[str, Any]:
    """The dialogue as a JSON row."""
    bills = {name: dataclasses.asdict(bill) for name, bill in dialogue.bills.items()}
    row = {f.name: getattr(dialogue, f.name) for f in dataclasses.fields(dialogue)}
    return {
        **row,
        "case": to_record(dialogue.case),
        "answers": list(dialogue.answers),
        "narratives": list(dialogue.narratives),
        "errors": list(dialogue.errors),
        "bills": bills,
        "seconds": dict(dialogue.seconds),
    }


def dialogue_of(row: Mapping[str, Any]) -> Dialogue:
    """The dialogue of a row of `dialogue_row`. Raises `UserError` for a row that is none."""
    try:
        return Dialogue(
            **{
                **row,
                "case": from_record(row["case"]),
                "answers": tuple(row["answers"]),
                "narratives": tuple(row["narratives"]),
                "errors": tuple(row["errors"]),
                "bills": {name: Bill(**bill) for name, bill in row["bills"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"no dialogue of this project: {error!r}") from None


def _take(one: _Open, turn: Turn) -> None:
    one.turns.append(turn)
    one.state = turn.state
    if turn.answer is None:
        one.failed = turn.error or "no answer"
    elif not turn.answer.text.strip():
        one.failed = "the answer is empty"
    else:
        one.history.append({"role": "assistant", "content": turn.answer.text})


def _closed(one: _Open) -> Dialogue:
    answered = [t for t in one.turns if t.answer is not None and t.answer.text.strip()]
    last = answered[-1].answer if answered else None
    seconds: dict[str, float] = {}
    for turn in one.turns:
        for component, spent in turn.seconds.items():
            seconds[component] = seconds.get(component, 0.0) + spent
    calls = [call for turn in one.turns for call in turn.calls]
    return Dialogue(
        case=one.case,
        answers=tuple(turn.answer.text for turn in answered),
        failed=one.failed,
        narratives=tuple(turn.narrative for turn in answered),
        tokens=None if last is None else last.completion_tokens,
        reason="" if last is None else last.reason,
        # In full, also for answers that an earlier start has paid for.
        bills=_bills((name, dataclasses.replace(a, cached=False)) for name, a in calls),
        seconds=seconds,
        errors=tuple(turn.error for turn in answered if turn.error),
    )


def _bills(calls: Iterable[tuple[str, Answer]]) -> dict[str, Bill]:
    answers: dict[str, list[Answer]] = {}
    for component, answer in calls:
        if answer.reason != GIVEN:
            answers.setdefault(component, []).append(answer)
    return {component: bill_of(found) for component, found in answers.items()}


def _plus(first: Bill, second: Bill) -> Bill:
    return Bill(**{name: value + getattr(second, name) for name, value in vars(first).items()})
