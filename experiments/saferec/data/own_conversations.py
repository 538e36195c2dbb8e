"""Sensitivities for a corpus of one's own: `python -m experiments.saferec inject`.

A corpus is JSON or JSON Lines, one conversation a row:

    sample_id       optional; the number of the row otherwise
    dialogue        [{"role": "user" or "assistant", "content": ...}, ...]; or, ready to be asked,
    prompt          text, or one user message
    groundtruth_with_release_year   [[title, year], ...]: what the user liked next
    teacher         [[title, year], ...]: what a teacher recommends; or, as text with lines
    completion      "Title (Year)"
    seen_titles     optional: titles the conversation names
    assigned_trait  optional: a trait assigned before; the judge is then not asked

The raw trait assignments of SafeCRS (arXiv 2603.03536) are such a corpus.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.common.chats.cache import cached, open_store
from experiments.common.chats.endpoint import endpoint_model
from experiments.common.files.json_rows import check_text, read_rows, shown
from experiments.common.judges.functions import remembering
from experiments.common.judges.verdict import Judge
from experiments.saferec.data.injection import CoListed, Dropped, Injection, inject, needs_judge
from experiments.saferec.data.judges import (
    chat_judge,
    command_judge,
    function_judge,
    request,
    rule_judge,
)
from experiments.saferec.data.store import REJECTED, check_free, load_table, write_dataset
from experiments.saferec.embedded.phrases import FILM_PHRASES, GAME_PHRASES
from experiments.saferec.lists.parsing import (
    SOLUTION_CLOSE,
    SOLUTION_OPEN,
    parse_recommendations,
)
from experiments.saferec.lists.records import (
    groundtruth,
    output_text,
    seen_titles,
    teacher_list,
    to_pairs,
    trait_key,
)
from experiments.saferec.oracle.catalogue import Oracle, OracleOptions
from experiments.saferec.oracle.files import read_items
from experiments.saferec.oracle.table import ItemTable
from gdpo_jax.errors import UserError

__all__ = ["Judging", "corpus_record", "inject_command", "inject_corpus"]

TASK = "Recommend {count} {noun} for this conversation, one a line, as Title (Year)."
_SPEAKERS = {"user": "USER", "assistant": "SYSTEM", "system": "SYSTEM"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging:
    """Who says which sensitivity a user has."""

    judge: str = "rules"  # rules, or MODULE:FUNCTION, which gets a record and the trait keys
    judge_command: str | None = None  # a command to ask instead, JSON in and out (judges.py)
    judge_url: str | None = None  # a chat endpoint to ask, such as http://localhost:8000/v1
    judge_model: str | None = None  # the model that the endpoint shall use
    judge_key: str = "OPENAI_API_KEY"  # environment variable that holds the endpoint's key, if any
    answers: Path | None = None  # keeps what the judge said (SQLite); only the rest is asked


def inject_command(
    out: Path,
    *,
    train: Path | None = None,
    validation: Path | None = None,
    test: Path | None = None,
    data_dir: Path | None = None,
    items: Path | None = None,
    oracle: OracleOptions = OracleOptions(),
    judging: Annotated[Judging, tyro.conf.arg(name="")] = Judging(),
    options: Annotated[Injection, tyro.conf.arg(name="")] = Injection(),
) -> None:
    """Give the conversations of a corpus sensitivities, and write a data set to train on.

    Args:
        out: folder of the new data set; use it as --data-dir afterwards.
        train: conversations, JSON or JSON Lines; own_conversations.py tells their fields.
        validation: the same for validation.
        test: the same for the test.
        data_dir: a data set whose films or games are recommended; or give items.
        items: a table of films or games, JSON or JSON Lines; oracle/files.py tells its fields.
        oracle: from which risk on an item violates a trait, and the tolerance for years.
        judging: who assigns traits.
        options: how conversations get their sensitivities.
    """
    paths = {"train": train, "validation": validation, "test": test}
    files = {split: path for split, path in paths.items() if path is not None}
    if not files:
        raise UserError("give at least one of --train, --validation and --test")
    if (data_dir is None) == (items is None):
        raise UserError("give data_dir or items: what is recommended, and how risky it is")
    check_free(out)  # before a judge is paid for what could not be written
    table = load_table(data_dir) if items is None else read_items(items)
    risks = table.oracle(options=oracle)
    with contextlib.ExitStack() as stack:
        judge = _open_judge(judging, risks, stack)
        records, rejected, counts = inject_corpus(
            files, table, judge=judge, options=options, oracle=risks
        )
    folder = write_dataset(out, table, records, rejected=rejected, counts=counts)
    lines = [
        f"{split}: kept {count['kept']} of {count['read']} conversations"
        for split, count in counts["splits"].items()
    ]
    lines += [f"{number:6d}  {trait}" for trait, number in counts["traits"].items()]
    lines.append(f"{len(rejected)} dropped, listed in {folder / REJECTED}")
    for line in lines:
        Console(soft_wrap=True).print(line, highlight=False, markup=False)


def _open_judge(asked: Judging, risks: Oracle, stack: contextlib.ExitStack) -> Judge:
    keys = risks.trait_keys
    rules = asked.judge == "rules" and asked.judge_url is None and asked.judge_command is None
    if rules:
        if asked.answers is not None:
            raise UserError("answers keeps what a judge was asked; the rules need no such file")
        return rule_judge(risks)  # free, and follows the oracle
    store = None
    if asked.answers is not None:
        store = stack.enter_context(contextlib.closing(open_store(asked.answers)))
    if asked.judge_url is not None:
        if asked.judge_model is None:
            raise UserError("give judge_model too: which model the endpoint shall use")
        api_key = os.environ.get(asked.judge_key)
        model = endpoint_model(asked.judge_url, model=asked.judge_model, api_key=api_key)
        return chat_judge(model if store is None else cached(model, store), keys)
    if asked.judge_command is not None:
        name, judge = f"command {asked.judge_command}", command_judge(asked.judge_command, keys)
    else:
        name, judge = asked.judge, function_judge(asked.judge, keys)
    if store is None:
        return judge
    return remembering(judge, store, name=name, request=lambda record: request(record, keys))


def inject_corpus(
    files: Mapping[str, Path],
    table: ItemTable,
    *,
    judge: Judge,
    options: Injection,
    oracle: Oracle | None = None,
) -> tuple[dict[str, list[dict]], list[dict], dict[str, Any]]:
    """Records by split, the dropped rows with file, index and reason, and counts.

    `oracle` says what violates, the table's own unless given. Lists are refilled from the training
    lists, or from those of the first split without any. Raises UserError for an unreadable file,
    and where nothing is left.
    """
    book = GAME_PHRASES if table.noun == "games" else FILM_PHRASES
    rejected: list[dict[str, Any]] = []
    plain: dict[str, list[tuple[int, dict]]] = {}
    read = {}
    for split, path in files.items():
        rows = read_rows(path, any_value=True)
        read[split], plain[split] = len(rows), []
        seen: set[str] = set()
        for index, row in enumerate(rows):
            try:
                record = corpus_record(row, index, noun=table.noun, count=options.list_length)
                if record["sample_id"] in seen:
                    raise UserError(f"a second conversation {record['sample_id']!r}")
            except UserError as error:
                rejected.append({"file": str(path), "index": index, "reason": str(error)})
            else:
                seen.add(record["sample_id"])
                plain[split].append((index, record))
    source = plain["train" if "train" in plain else next(iter(plain))]
    co_listed = CoListed(teacher_list(r) for _, r in source) if options.refill else None
    oracle = table.oracle() if oracle is None else oracle
    records: dict[str, list[dict]] = {split: [] for split in files}
    # All questions at once: an endpoint answers many at a time.
    asked = [r for part in plain.values() for _, r in part if needs_judge(r, options)]
    verdicts = iter(judge(asked))
    for split, part in plain.items():
        for index, record in part:
            try:
                made = inject(
                    record,
                    verdict=next(verdicts) if needs_judge(record, options) else None,
                    oracle=oracle,
                    book=book,
                    options=options,
                    co_listed=co_listed,
                )
            except Dropped as error:
                reason = str(error)
                rejected.append({"file": str(files[split]), "index": index, "reason": reason})
            else:
                records[split].append(made)
    order = {str(path): number for number, path in enumerate(files.values())}
    rejected.sort(key=lambda entry: (order[entry["file"]], entry["index"]))
    if not any(records.values()):
        first = f"; the first: {rejected[0]['reason']}" if rejected else ""
        raise UserError(f"no conversation is left{first}")
    traits = Counter(r["assigned_trait"] or "(none)" for part in records.values() for r in part)
    counts = {
        "splits": {split: {"kept": len(records[split]), "read": read[split]} for split in files},
        "traits": dict(traits.most_common()),
        "options": {**vars(options)},
    }
    return records, rejected, counts


def corpus_record(row: Any, index: int, *, noun: str = "films", count: int = 20) -> dict[str, Any]:
    """The record of row number `index` of a corpus, before it has a sensitivity.

    Raises UserError with the reason for a row without conversation, ground truth or list.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"expected an object, found {type(row).__name__}")
    record = {
        "sample_id": str(row.get("sample_id", row.get("id", index))),
        "prompt": [{"role": "user", "content": _prompt(row, noun, count)}],
        "seen_titles": seen_titles(row),
        "groundtruth_with_release_year": to_pairs(groundtruth(row)),
        "teacher": to_pairs(_list(row)),
        "assigned_trait": trait_key(row["assigned_trait"]) if row.get("assigned_trait") else "",
        "assignment_reason": str(row.get("assignment_reason") or ""),
    }
    check_text(record)
    return record


def _prompt(row: Mapping[str, Any], noun: str, count: int) -> str:
    field = "dialogue" if "dialogue" in row else "prompt"
    value = row.get(field)
    if field == "prompt" and isinstance(value, str) and value.strip():
        return value
    if not isinstance(value, list) or not value:
        raise UserError(f"field {field!r}: expected a list of messages")
    lines = []
    for message in value:
        role = message.get("role") if isinstance(message, Mapping) else None
        text = message.get("content") if isinstance(message, Mapping) else None
        known = isinstance(role, str) and role in _SPEAKERS
        if not known or not isinstance(text, str) or not text.strip():
            raise UserError(
                f"field {field!r}: {shown(message)} is no message with 'role' (user or assistant) "
                "and 'content'"
            )
        lines.append((role, text))
    if field == "prompt":
        if len(lines) != 1 or lines[0][0] != "user":
            raise UserError("field 'prompt': expected one user message; give others as 'dialogue'")
        return lines[0][1]
    spoken = [f"{_SPEAKERS[role]}: {text}" for role, text in lines]
    return "\n".join([TASK.format(count=count, noun=noun), *spoken])


def _list(row: Mapping[str, Any]) -> Sequence[tuple[str, int]]:
    if "teacher" in row:
        return teacher_list(row)
    text = output_text(row, "the row")
    whole = text.replace(SOLUTION_OPEN, "").replace(SOLUTION_CLOSE, "")
    items = parse_recommendations(f"{SOLUTION_OPEN}{whole}{SOLUTION_CLOSE}")
    return [(item.title, item.year) for item in items]
