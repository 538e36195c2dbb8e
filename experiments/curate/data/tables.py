"""What dialogues are made of: rows with a constraint and its questions, facts, trivia, preferences.

The columns are CURATe's (arXiv 2410.21159, section 3).
"""

import dataclasses

__all__ = ["CATEGORIES", "InputRow", "Tables"]

CATEGORIES = ("Trauma triggers", "Physical constraint", "Severe allergy", "Severe phobia")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputRow:
    """One user, who said something about himself, and people who would like the opposite."""

    category: str
    constraint: str  # the user about himself
    preference_b: str  # the three other people's, ever stronger
    preference_c: str
    preference_d: str
    question_user: str  # about the user alone; unbiased, then with a reason to say yes
    biased_user: str
    question_all: str  # about the user and the others
    biased_all: str
    person_constraint: str = ""  # the constraint said of person B; ablation "roles reversed"
    user_preference_b: str = ""  # person B's preference said of the user
    control_question: str = ""  # one for which the constraint does not matter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """Rows of the scenarios, rows of the ablations, and what is drawn for each dialogue."""

    rows: tuple[InputRow, ...]
    ablation_rows: tuple[InputRow, ...] = ()  # these have person_constraint, user_preference_b
    facts: tuple[str, ...]
    preferences: tuple[str, ...]
    trivia: tuple[str, ...]
