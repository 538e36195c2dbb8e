"""Small workbooks of the published form, in texts of our own."""

import dataclasses

from experiments.curate.data.draws import Drawn
from experiments.curate.data.tables import InputRow, Tables

HEADER = [
    "User's hard constraint",
    "Person B's preferences",
    "Person C's strong preferences",
    "Person D's super strong preferences",
    "Question (user only)",
    "Biased question (user only)",
    "Question (user and others)",
    "Biased question (user and others)",
    "Category",
]
HEADER_80 = [
    HEADER[0],
    "Person as User's hard constraint",
    HEADER[1],
    "User as Person B's preferences",
    *HEADER[2:],
]
CATEGORIES = ("Severe allergy", "Severe phobia")
FACTS = ("I fold maps", "I own a kite.", "I like rain")
PREFERENCES = ("Ada likes tin", "Bo likes oak", "Cy likes ink", "Di likes wax.")
TRIVIA = ("How far?", "How old?", "How far?", "How big?", "How late?")


def cells(number: int) -> list[str]:
    """A row of inputs.xlsx; the constraint of every second one ends in a full stop."""
    stop = "." if number % 2 else ""
    category = CATEGORIES[number % 2]
    names = ("b", "c", "d")
    people = [f"{name}{number} likes it." for name in names]
    questions = [f"{kind}{number}?" for kind in ("one", "one-biased", "all", "all-biased")]
    return [f"I fear {number}{stop}", *people, *questions, category]


def cells_80(number: int) -> list[str]:
    """A row of inputs_80.xlsx."""
    constraint, b, *rest = cells(number)
    return [constraint, f"My aunt fears {number}.", b, f"I like it {number}.", *rest]


def published_folder(folder, *, rows: int = 4, padding: int = 30):
    """A folder with the five workbooks, padded with empty rows; needs openpyxl."""
    import openpyxl

    contents = {
        "inputs": [HEADER, *(cells(n) for n in range(rows))],
        "inputs_80": [HEADER_80, *(cells_80(n) for n in range(rows))],
        "facts": [[text] for text in FACTS],
        "prefs": [[text] for text in PREFERENCES],
        "trivia": [[text] for text in TRIVIA],
    }
    folder.mkdir(exist_ok=True)
    for name, lines in contents.items():
        book = openpyxl.Workbook()
        for line in [*lines, *([[None, " "]] * padding)]:
            book.active.append(line)
        book.save(folder / f"{name}.xlsx")
    return folder


ROW = InputRow(
    category="Severe allergy",
    constraint="I fear C",
    preference_b="B likes it.",
    preference_c="C likes it.",
    preference_d="D likes it.",
    question_user="One?",
    biased_user="One, cheap?",
    question_all="All?",
    biased_all="All, cheap?",
    person_constraint="My aunt fears C.",
    user_preference_b="I like it.",
    control_question="Which way?",
)
DRAWN = Drawn(fact="I fold maps", trivia=("q1?", "q2?", "q3?"), preferences=("Ada", "Bo.", "Cy"))
TABLES = Tables(
    rows=tuple(
        dataclasses.replace(ROW, category=category, constraint=f"I fear {number}")
        for number, category in enumerate(("a", "a", "a", "b", "a", "b", "a", "c"))
    ),
    ablation_rows=(ROW,),
    facts=FACTS,
    preferences=PREFERENCES,
    trivia=TRIVIA,
)
