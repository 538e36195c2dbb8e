"""A sheet of answers for people to label, and how far a judge agrees with them.

The published data have no labels of people, and one model judges all of it, so whoever reports a
number labels some answers and prints the agreement beside it. The sheet draws alike from every
label of the judge, because some are rare; agreement is that of the sheet, not of all answers.
"""

import csv
import dataclasses
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.common.files.sheets import read_sheet
from experiments.common.judges.agreement import Agreement, agreement
from experiments.common.judges.verdict import Label, Verdict
from experiments.persona_leakage.published import fulfilment, reveals
from experiments.persona_leakage.published.memory_rubrics import HIGHEST
from experiments.persona_leakage.published.requests import DISCLOSURE, HELPFULNESS, SAFETY, Said
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = ["LEGAL", "Unit", "agreements", "read_own", "units", "write_sheet"]

STATED, NOT_STATED = "yes", "no"
LEGAL: Mapping[str, tuple[Label, ...]] = {
    **{part: tuple(range(1, highest + 1)) for part, highest in HIGHEST.items()},
    DISCLOSURE: (STATED, NOT_STATED),
    **dict.fromkeys((SAFETY, HELPFULNESS), (fulfilment.YES, fulfilment.NO, fulfilment.PARTLY)),
}
_COLUMNS = ("id", "part", "legal labels", "memories", "query", "answer", "own label")
_TOO_LONG = 40  # memories of a row that are written out; what is asked about stands in the query


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """What one label is about: an answer, or one attribute in one."""

    id: str
    said: Said
    about: str  # the attribute and its value
    label: Label  # the judge's


def units(said: Said, verdict: Verdict) -> Iterator[Unit]:
    """The units of an answer with a read verdict; of a message one for each attribute."""
    if said.request.part != DISCLOSURE:
        yield Unit(id=said.id, said=said, about="", label=verdict.label)
        return
    stated = reveals.revealed(verdict)
    for attribute in reveals.judged(said):
        yield Unit(
            id=f"{said.id} {attribute.key}",
            said=said,
            about=f"Does the answer state the whole value? {attribute.key}: {attribute.value}",
            label=STATED if attribute.key in stated else NOT_STATED,
        )


def write_sheet(path: Path, found: Sequence[Unit], count: int, *, seed: int = 0) -> int:
    """Writes a csv file of `count` units, or of all there are, to label; returns how many.

    They are drawn in turn from each part and label, without the judge's labels beside them.
    """
    rng = random.Random(seed)
    piles: dict[tuple[str, Label], list[Unit]] = {}
    for unit in found:
        piles.setdefault((unit.said.request.part, unit.label), []).append(unit)
    for pile in piles.values():
        rng.shuffle(pile)
    drawn: list[Unit] = []
    while len(drawn) < count and any(piles.values()):
        drawn += [pile.pop() for pile in piles.values() if pile]
    drawn = drawn[:count]
    rng.shuffle(drawn)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows(_row(unit) for unit in drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, text.getvalue())
    return len(drawn)


def read_own(path: Path) -> dict[str, Label]:
    """The labels of a sheet by the unit's id; rows without one are left out.

    Raises UserError that names file, row and column for an unknown part and label, an id that is
    there twice, and a sheet without any label.
    """
    own: dict[str, Label] = {}
    for number, row in enumerate(read_sheet(path, columns=("id", "part", "own label")), start=1):
        where = f"{path}, row {number} below the header"
        given = str(row["own label"] if row["own label"] is not None else "").strip()
        if not given:
            continue
        part, id_ = str(row["part"]), str(row["id"])
        legal = {str(label): label for label in LEGAL.get(part, ())}
        if not legal:
            raise UserError(f"{where}, column 'part': no part {part!r}; legal: {', '.join(LEGAL)}")
        if given not in legal:
            raise UserError(
                f"{where}, column 'own label': {given!r}; give one of {', '.join(legal)}"
            )
        if id_ in own:
            raise UserError(f"{where}, column 'id': {id_!r} is there twice; leave one out")
        own[id_] = legal[given]
    if not own:
        raise UserError(f"{path}: no row has an 'own label'; fill in some")
    return own


def agreements(
    found: Sequence[Unit], own: Mapping[str, Label], *, level: float = 0.95
) -> dict[str, Agreement]:
    """How far the judge's labels agree with people's, by part.

    Raises UserError for a label of an answer that is not there, or that the judge did not read.
    """
    known = {unit.id: unit for unit in found}
    if missing := [id_ for id_ in own if id_ not in known]:
        raise UserError(
            f"own label of {missing[0]!r}: no such answer with a verdict here; give the sheet of "
            "this evaluation"
        )
    parts: dict[str, list[str]] = {}
    for id_ in own:
        parts.setdefault(known[id_].said.request.part, []).append(id_)
    return {
        part: agreement(
            [known[id_].label for id_ in ids],
            [own[id_] for id_ in ids],
            labels=LEGAL[part],
            level=level,
        )
        for part, ids in parts.items()
    }


def _row(unit: Unit) -> tuple[str, ...]:
    request = unit.said.request
    memories = request.memories if len(request.memories) <= _TOO_LONG else ()
    return (
        unit.id,
        request.part,
        ", ".join(map(str, LEGAL[request.part])),
        "\n".join(memories),
        f"{request.query}\n{unit.about}".strip(),
        unit.said.text,
        "",
    )
