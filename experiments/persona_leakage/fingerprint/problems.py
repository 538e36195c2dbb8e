"""Verification problems in the form of PAN 2014, and answers to them.

A folder holds one folder a problem, with `known01.txt`, `known02.txt`, ... by one author and
`unknown.txt` by him or another one, and the truth in `truth.json` (`problems`: `name`, `answer` Y
or N) or `truth.txt` (`NAME Y` a line). Byte order marks are no text and are left out.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.common.files.json_rows import read_json, read_text
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = ["Problem", "read_answers", "read_problems", "read_truth", "write_answers"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Whether `unknown` is by the author of all the `known` texts; `same` is None where nobody
    said."""

    id: str
    known: tuple[str, ...]
    unknown: str
    same: bool | None = None


def read_problems(folder: Path, *, truth: bool = True) -> list[Problem]:
    """The problems of a folder, in order of their names.

    truth: they must have one; without, `same` is None and no file is looked for.

    Raises UserError that names the file and the problem: no such folder, no problems, a problem
    without a known or an unknown text, an empty or unreadable text, and a truth that is missing,
    damaged, or speaks of other problems.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give one with a folder a problem")
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and _is_problem(path))
    if not folders:
        raise UserError(
            f"{folder} has no problems: folders with known01.txt and unknown.txt; give the folder "
            "that holds them, such as .../train"
        )
    answers = read_truth(folder) if truth else {}
    names = [path.name for path in folders]
    if truth and (absent := sorted(set(names) ^ set(answers))):
        where = "has no answer in the truth" if absent[0] in names else "is no folder"
        raise UserError(f"{folder}: problem {absent[0]!r} {where}; the two must name the same")
    return [_read_problem(path, answers.get(path.name)) for path in folders]


def read_truth(folder: Path) -> dict[str, bool]:
    """The truth by name of problem: `truth.json` of the folder, or `truth.txt`.

    Raises UserError as `read_problems`, also for a problem that stands there twice.
    """
    if (path := folder / "truth.json").is_file():
        value = read_json(path)
        rows = value.get("problems") if isinstance(value, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path} has no list 'problems'; expected PAN 2014's form of truth")
        pairs = [_pair_of_row(path, number, row) for number, row in enumerate(rows)]
    elif (path := folder / "truth.txt").is_file():
        pairs = [(number, *_words(path, number, line)) for number, line in _lines(path)]
        pairs = [(f"line {number}", name, answer) for number, name, answer in pairs]
    else:
        raise UserError(f"{folder} has neither truth.json nor truth.txt")
    found: dict[str, bool] = {}
    for place, name, answer in pairs:
        if answer not in ("Y", "N"):
            raise UserError(f"{path}, {place}: problem {name!r} has answer {answer!r}, not Y or N")
        if name in found:
            raise UserError(f"{path}, {place}: problem {name!r} stands there twice; remove one")
        found[name] = answer == "Y"
    return found


def read_answers(path: Path) -> dict[str, float]:
    """Answers by name of problem: `NAME SCORE` a line (PAN 2014), or JSON Lines with `id` and
    `value` (PAN 2020 on).

    Raises UserError that names file and line: unreadable, no score in [0, 1], a problem twice.
    """
    found: dict[str, float] = {}
    for number, line in _lines(path):
        name, text = _answer_of_line(path, number, line)
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not 0 <= score <= 1:
            raise UserError(f"{path}, line {number}: {text!r} of {name!r} is no score in [0, 1]")
        if name in found:
            raise UserError(f"{path}, line {number}: problem {name!r} is answered twice")
        found[name] = score
    return found


def write_answers(path: Path, answers: Mapping[str, float]) -> None:
    """Writes `NAME SCORE` a line, the whole file or nothing; a path that ends in `.jsonl` gets
    JSON Lines with `id` and `value`. Raises UserError where it cannot be written."""
    if path.suffix == ".jsonl":
        lines = [json.dumps({"id": name, "value": score}) for name, score in answers.items()]
    else:
        lines = [f"{name} {score:.6f}" for name, score in answers.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, "".join(line + "\n" for line in lines))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _is_problem(folder: Path) -> bool:
    return any(folder.glob("known*.txt")) or (folder / "unknown.txt").exists()


def _read_problem(folder: Path, same: bool | None) -> Problem:
    known = sorted(folder.glob("known*.txt"))
    if not known:
        raise UserError(f"{folder}: problem {folder.name!r} has no known*.txt")
    if not (unknown := folder / "unknown.txt").is_file():
        raise UserError(f"{folder}: problem {folder.name!r} has no unknown.txt")
    return Problem(
        id=folder.name,
        known=tuple(_read_essay(path) for path in known),
        unknown=_read_essay(unknown),
        same=same,
    )


def _read_essay(path: Path) -> str:
    text = read_text(path)
    if not text.strip():
        raise UserError(f"{path} is empty; problem {path.parent.name!r} cannot be answered")
    return text


def _pair_of_row(path: Path, number: int, row: object) -> tuple[str, str, str]:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise UserError(f"{path}, problem {number}: expected an object with 'name' and 'answer'")
    return f"problem {number}", row["name"], str(row.get("answer"))


def _answer_of_line(path: Path, number: int, line: str) -> tuple[str, str]:
    if not line.startswith("{"):
        return _words(path, number, line)
    try:
        row = json.loads(line)
        return str(row["id"]), str(row["value"])
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path}, line {number}: expected an object with 'id' and 'value' ({error!r})"
        ) from None


def _words(path: Path, number: int, line: str) -> tuple[str, str]:
    words: Sequence[str] = line.split()
    if len(words) != 2:
        raise UserError(f"{path}, line {number}: expected two words, found {line!r}")
    return words[0], words[1]


def _lines(path: Path) -> list[tuple[int, str]]:
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
