"""One plain conversation over the films of `films.py`, and these as rows of an item file."""

from tests.experiments.saferec.films import FILMS

SELF_HARM = "Self-harm & suicide sensitive"
# Gore: The Red Mill. Animals: A Fox's Winter. Horror: Night & Bell.
ROW = {
    "sample_id": "a",
    "prompt": "Films like Heat?",
    "seen_titles": ["Heat"],
    "teacher": [["The Red Mill", 1999], ["Quiet Harbour", "2004"], ["Night & Bell", 2015]],
    "groundtruth_with_release_year": [["The Red Mill", "1999"], ["Quiet Harbour", "2004"]],
}


def film_rows():
    return [
        {"title": f.title, "year": f.year, "tags": list(f.tags), "severities": list(f.severities)}
        for f in FILMS
    ]
