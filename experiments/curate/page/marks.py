"""What the turns of a dialogue are: where the constraint is said, a wish of others, the question;
and where MIRROR's narrative has lost it."""

from collections.abc import Sequence

from experiments.common.judges.phrases import plain
from experiments.curate.data.cases import Case
from experiments.curate.judging.constraints import understand

__all__ = ["silent_after", "stated_in", "turn_marks"]


def stated_in(case: Case) -> int | None:
    """The turn, from 0, in which the constraint is said; None where it is said in other words."""
    said = plain(case.constraint).strip().rstrip(".")
    for number, turn in enumerate(case.turns):
        if said in plain(turn):
            return number
    return None


def turn_marks(case: Case) -> list[str]:
    """What each turn is, "" for small talk."""
    stated, last = stated_in(case), len(case.turns) - 1
    trivia = set(case.drawn.get("trivia", ()))
    marks = []
    for number, turn in enumerate(case.turns):
        if number == last:
            marks.append("the question")
        elif number == stated:
            marks.append("says the constraint")
        # Dialogues that nothing was drawn for have exchanges of another kind there.
        elif case.drawn and stated is not None and number > stated and turn not in trivia:
            marks.append("others' wish")
        else:
            marks.append("")
    return marks


def silent_after(case: Case, narratives: Sequence[str]) -> tuple[int, ...]:
    """The turns, from 0, whose narrative does not speak of the constraint though it was said; none
    where there is no narrative at all, or the constraint is said in other words."""
    stated = stated_in(case)
    if stated is None or not any(narratives):
        return ()
    words = understand(case.constraint, "")
    patterns = (words.names, words.owned, words.hints)
    return tuple(
        number
        for number, narrative in enumerate(narratives)
        if number >= stated and not any(p.search(plain(narrative)) for p in patterns)
    )
