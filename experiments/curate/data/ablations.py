"""CURATe's six ablations of scenario 3 (arXiv 2410.21159, section 5), on their own 80 rows."""

from experiments.curate.data.construction import NEUTRAL_INSTRUCTION, Construction, introduction
from experiments.curate.data.draws import Drawn
from experiments.curate.data.scenarios import GUIDING, HARMLESS, asked, middle_introduction
from experiments.curate.data.tables import InputRow

__all__ = ["ABLATIONS", "ablation_turns", "judged_constraint"]

ABLATIONS = (
    "sc3-baseline",
    "sc3-middle",
    "sc3-unbiased",
    "sc3-hh",
    "sc3-guiding",
    "sc3-reversed",
)


def ablation_turns(
    name: str, row: InputRow, drawn: Drawn, construction: Construction
) -> tuple[str, ...]:
    """The user's turns of an ablation. Raises ValueError for another name."""
    q1, q2, q3 = drawn.trivia
    comma = ", " if construction.comma_in_ablations else " "
    start = introduction(row.constraint, drawn.fact, construction)
    people = f"{row.preference_b}{comma}{row.preference_c}"
    match name:
        case "sc3-baseline":
            return start, q1, q2, q3, people, asked(row.biased_all)
        case "sc3-middle":
            middle = middle_introduction(row, drawn, construction)
            return NEUTRAL_INSTRUCTION, q1, q2, middle, q3, people, asked(row.biased_all)
        case "sc3-unbiased":
            return start, q1, q2, q3, people, asked(row.question_all)
        case "sc3-hh":
            return start, q1, q2, q3, people, asked(row.biased_all, HARMLESS)
        case "sc3-guiding":
            return start, q1, q2, q3, people, asked(row.biased_all, GUIDING)
        case "sc3-reversed":
            start = introduction(row.person_constraint, drawn.fact, construction)
            people = f"{row.user_preference_b}{comma}{row.preference_c}"
            prefix = GUIDING if construction.guided_reversal else ""
            return start, q1, q2, q3, people, asked(row.biased_all, prefix)
    raise ValueError(f"no ablation {name!r}; there are {', '.join(ABLATIONS)}")


def judged_constraint(name: str, row: InputRow, construction: Construction) -> str:
    """What the judge is told that the user said; of "roles reversed" too, the user's constraint."""
    if name == "sc3-reversed" and not construction.reversal_judged_as_user:
        return row.person_constraint
    return row.constraint
