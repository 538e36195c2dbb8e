"""Cases from tables: which variants, which rows, which draws.

Names: "sc1" to "sc5", MIRROR's variants "mirror-sc1-unbiased" and so on, the ablations
"sc3-baseline" and so on; "-control" behind any of them asks the row's control question instead.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.curate.data.ablations import ABLATIONS, ablation_turns, judged_constraint
from experiments.curate.data.cases import Case
from experiments.curate.data.construction import CURATE, Construction
from experiments.curate.data.draws import draw
from experiments.curate.data.scenarios import MIRROR_VARIANTS, SCENARIOS, scenario_turns
from experiments.curate.data.tables import InputRow, Tables
from gdpo_jax.errors import UserError

__all__ = ["CONTROL", "balanced_rows", "build_cases", "check_names"]

CONTROL = "-control"
_ABLATION_GROUP = 6
# Variants of a row with the same number share their draws.
_GROUPS = {
    **{name: number for number, name in enumerate(SCENARIOS, start=1)},
    **{name: number for number, name in enumerate(MIRROR_VARIANTS, start=1)},
    **dict.fromkeys(ABLATIONS, _ABLATION_GROUP),
}


def check_names(names: Sequence[str]) -> None:
    """UserError for a name that is no scenario, variant or ablation, and for one given twice."""
    for name in names:
        if name.removesuffix(CONTROL) not in _GROUPS:
            raise UserError(
                f"no scenario {name!r}; choose from {', '.join(_GROUPS)}, each also with {CONTROL}"
            )
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise UserError(f"scenario {twice[0]!r} is given twice; name it once")


def build_cases(
    tables: Tables,
    names: Sequence[str] = SCENARIOS,
    *,
    construction: Construction = CURATE,
    seed: int = 0,
    limit: int | None = None,
) -> list[Case]:
    """The cases of the named variants, one after another, rows in order.

    limit: at most so many rows of each, balanced over categories. Raises UserError as
    `check_names`, for ablations of tables without their rows, and for controls without questions.
    """
    check_names(names)
    # Most rows of the ablations are users of the scenarios, at other places.
    users = {row.constraint: f"row {number}" for number, row in enumerate(tables.rows)}
    cases = []
    for name in names:
        plain = name.removesuffix(CONTROL)
        rows = tables.ablation_rows if plain in ABLATIONS else tables.rows
        if not rows:
            raise UserError(f"there are no rows for {name!r}; read them with the ablations")
        for number in balanced_rows(rows, limit=limit, seed=seed):
            row = rows[number]
            case = _case(name, plain, number, row, tables, construction, seed)
            own = f"ablation row {number}" if plain in ABLATIONS else f"row {number}"
            cluster = users.get(row.constraint, own) if plain in ABLATIONS else own
            cases.append(dataclasses.replace(case, cluster=cluster))
    return cases


def _case(
    name: str,
    plain: str,
    number: int,
    row: InputRow,
    tables: Tables,
    construction: Construction,
    seed: int,
) -> Case:
    control = name != plain
    group = _GROUPS[plain]
    if construction.shared_draws and plain not in ABLATIONS:
        group = 0
    drawn = draw(tables, construction, seed=seed, group=group, row=number)
    asking = _with_control(row, name, number) if control else row
    turns_of = ablation_turns if plain in ABLATIONS else scenario_turns
    log = {"fact": (drawn.fact,), "trivia": drawn.trivia}
    if plain == "sc5":
        log["preferences"] = drawn.preferences
    return Case(
        id=f"{name}/{number:04d}",
        row=number,
        scenario=name,
        category=row.category,
        constraint=judged_constraint(plain, row, construction),
        turns=turns_of(plain, asking, drawn, construction),
        control=control,
        drawn=log,
    )


def _with_control(row: InputRow, name: str, number: int) -> InputRow:
    if not row.control_question:
        raise UserError(
            f"row {number} has no control question, which {name!r} asks; the published workbooks "
            "have none, the embedded rows do"
        )
    question = row.control_question
    return dataclasses.replace(
        row,
        question_user=question,
        biased_user=question,
        question_all=question,
        biased_all=question,
    )


def balanced_rows(
    rows: Sequence[InputRow | Case], *, limit: int | None = None, seed: int = 0
) -> list[int]:
    """Numbers of at most `limit` rows, in order, with as many of each category as can be.

    A larger limit keeps all rows of a smaller one. Raises UserError for a limit below 1.
    """
    if limit is None:
        return list(range(len(rows)))
    if limit < 1:
        raise UserError(f"limit {limit}: give a number of rows from 1 on, or none for all")
    rng = np.random.default_rng([seed, len(rows)])
    by_category: dict[str, list[int]] = {}
    for number in rng.permutation(len(rows)):
        by_category.setdefault(rows[number].category, []).append(int(number))
    queues = [by_category[category] for category in sorted(by_category)]
    ranked = sorted(
        (rank, place, number)
        for place, queue in enumerate(queues)
        for rank, number in enumerate(queue)
    )
    return sorted(number for _, _, number in ranked[:limit])
