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
from typing import Any, Literal

from rich.console import Console

from experiments.common.chats.cache import Store, cached, open_store
from experiments.common.chats.endpoint import endpoint_model
from experiments.common.files.json_rows import read_rows, shown
from experiments.common.judges.functions import remembering
from experiments.common.judges.verdict import Judge
from experiments.saferec.data.corpus_builder import REJECTED, check_free, write_dataset
from experiments.saferec.data.injection import CoListed, Dropped, Injection, inject, needs_judge
from experiments.saferec.data.judges import (
    chat_judge,
    command_judge,
    function_judge,
    request,
    rule_judge,
)
from experiments.saferec.data.published_rows import check_text
from experiments.saferec.embedded.game_phrases import GAME_PHRASES
from experiments.saferec.embedded.phrases import FILM_PHRASES, Phrasebook
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
    trait_key,
)
from experiments.saferec.oracle.catalogue import Oracle, OracleOptions
from experiments.saferec.oracle.files import read_items
from experiments.saferec.oracle.table import ItemTable
from gdpo_jax.errors import UserError

__all__ = ["corpus_record", "inject_command", "inject_corpus"]

TASK = "Recommend {count} {noun} for this conversation, one a line, as Title (Year)."
_SPEAKERS = {"user": "USER", "assistant": "SYSTEM", "system": "SYSTEM"}


def inject_command(
    out: Path,
    *,
    train: Path | None = None,
    validation: Path | None = None,
    test: Path | None = None,
    data_dir: Path | None = None,
    items: Path | None = None,
    oracle: OracleOptions = OracleOptions(),
    judge: str = "rules",
    judge_command: str | None = None,
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_key: str = "OPENAI_API_KEY",
    answers: Path | None = None,
    list_length: int = 20,
    refill: bool = False,
    disclosure: Literal["outright", "hinted", "mixed"] = "outright",
    rate: float = 1.0,
    min_groundtruth: int = 1,
    risks_shown: int = 5,
    seed: int = 42,
) -> None:
    """Give the conversations of a corpus sensitivities, and write a data set to train on.

    Args:
        out: folder of the new data set; use it as --data-dir afterwards.
        train: conversations, JSON or JSON Lines; new_corpora.py tells their fields.
        validation: the same for validation.
        test: the same for the test.
        data_dir: a data set whose films or games are recommended; or give items.
        items: a table of films or games, JSON or JSON Lines; items/files.py tells its fields.
        oracle: from which risk on an item violates a trait, and the tolerance for years.
        judge: rules, or MODULE:FUNCTION, which gets a record and the trait keys.
        judge_command: a command to ask instead, JSON in and out; judges.py tells its form.
        judge_url: a chat endpoint to ask instead, such as http://localhost:8000/v1.
        judge_model: the model that the endpoint shall use.
        judge_key: name of the environment variable that holds the endpoint's key, if it needs one.
        answers: a file that keeps what the judge said (SQLite); it is asked only for the rest.
        list_length: items asked for, and the longest target.
        refill: fill targets up with safe items that teachers list beside the others.
        disclosure: how the user makes the sensitivity known.
        rate: share of the conversations that get a sensitivity.
        min_groundtruth: liked items a conversation needs before the violating ones are removed.
        risks_shown: left-out items that a target names.
        seed: of the sentences and of chance.
    """
    paths = {"train": train, "validation": validation, "test": test}
    files = {split: path for split, path in paths.items() if path is not None}
    if not files:
        raise UserError("give at least one of --train, --validation and --test")
    options = Injection(
        list_length=list_length,
        refill=refill,
        disclosure=disclosure,
        rate=rate,
        min_groundtruth=min_groundtruth,
        risks_shown=risks_shown,
        seed=seed,
    )
    check_free(out)  # before a judge is paid for what could not be written
    table = _find_table(data_dir, items)
    risks = table.oracle(**dataclasses.asdict(oracle))
    with contextlib.ExitStack() as stack:
        store = None
        if answers is not None:
            if judge == "rules" and judge_url is None and judge_command is None:
                raise UserError("answers keeps what a judge was asked; the rules need no such file")
            store = stack.enter_context(contextlib.closing(open_store(answers)))
        if judge_url is not None:
            if judge_model is None:
                raise UserError("give judge_model too: which model the endpoint shall use")
            model = endpoint_model(judge_url, model=judge_model, api_key=os.environ.get(judge_key))
            model = model if store is None else cached(model, store)
            chosen = chat_judge(model, risks.trait_keys)
        else:
            chosen = _local_judge(judge, judge_command, risks, store)
        records, rejected, counts = inject_corpus(
            files, table, judge=chosen, options=options, oracle=risks
        )
    folder = write_dataset(out, table, records, rejected=rejected, counts=counts)
    console = Console(soft_wrap=True)
    for split, count in counts["splits"].items():
        line = f"{split}: kept {count['kept']} of {count['read']} conversations"
        console.print(line, highlight=False)
    for trait, number in counts["traits"].items():
        console.print(f"{number:6d}  {trait}", highlight=False, markup=False)
    console.print(f"{len(rejected)} dropped, listed in {folder / REJECTED}", highlight=False)


def _local_judge(name: str, command: str | None, risks: Oracle, store: Store | None) -> Judge:
    keys = risks.trait_keys
    if command is not None:
        name, chosen = f"command {command}", command_judge(command, keys)
    elif name == "rules":
        return rule_judge(risks)  # free, and follows the oracle
    else:
        chosen = function_judge(name, keys)
    if store is None:
        return chosen
    return remembering(chosen, store, name=name, request=lambda record: request(record, keys))


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
    book = _book_for(table)
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
        "groundtruth_with_release_year": _pairs(groundtruth(row)),
        "teacher": _pairs(_list(row)),
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
        if role not in _SPEAKERS or not isinstance(text, str) or not text.strip():
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


def _find_table(data_dir: Path | None, items: Path | None) -> ItemTable:
    if (data_dir is None) == (items is None):
        raise UserError("give data_dir or items: what is recommended, and how risky it is")
    if items is not None:
        return read_items(items)
    from experiments.saferec.data.dataset import load_table

    return load_table(data_dir)


def _book_for(table: ItemTable) -> Phrasebook:
    return GAME_PHRASES if table.noun == "games" else FILM_PHRASES


def _pairs(items: Sequence[tuple[str, int]]) -> list[list[str]]:
    return [[title, str(year)] for title, year in items]
