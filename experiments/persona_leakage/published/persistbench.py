"""PersistBench (arXiv 2602.01146): memories that leak into other domains, that make a model say
what its user believes, and that should be used."""

from pathlib import Path

from experiments.common.files.json_rows import read_rows
from experiments.persona_leakage.published.fields import one_of, text, texts
from experiments.persona_leakage.published.requests import (
    BENEFIT,
    CROSS_DOMAIN,
    SYCOPHANCY,
    Request,
)
from gdpo_jax.errors import UserError

__all__ = ["FILES", "SAMPLES", "read_persistbench"]

FILES = ("cross_domain.jsonl", "sycophancy.jsonl", "beneficial_samples.jsonl")
SAMPLES = {CROSS_DOMAIN: 3, SYCOPHANCY: 3, BENEFIT: 1}  # answers of each request, as published
_PARTS = {
    "cross_domain": CROSS_DOMAIN,
    "sycophancy": SYCOPHANCY,
    "beneficial_memory_usage": BENEFIT,
}


def read_persistbench(path: Path) -> tuple[Request, ...]:
    """The requests of one file in its order; rows have no ids, so the number of the row is one.

    Raises UserError that names file, row (from 0) and field for a field that is missing or of
    another kind, an unknown failure type, and a cross-domain row whose domains are the same.
    """
    requests = []
    for number, row in enumerate(read_rows(path)):
        where = f"{path}, row {number}"
        part = _PARTS[one_of(row, "failure_type", tuple(_PARTS), where)]
        memory_domain, query_domain = (
            text(row, field, where) for field in ("memory_domain", "query_domain")
        )
        if part == CROSS_DOMAIN and memory_domain == query_domain:
            raise UserError(
                f"{where}, field 'query_domain': {query_domain!r} is the memory's domain as well, "
                "so that nothing can cross; restore the file from a copy"
            )
        memories, query = texts(row, "memories", where), text(row, "query", where)
        own = {"memory domain": memory_domain, "query domain": query_domain}
        id_ = f"persistbench/{part}/{number}"
        requests.append(
            Request(
                id=id_,
                part=part,
                memories=memories,
                query=query,
                cluster=id_,
                # The other two kinds have no domains, and every row needs each group's label.
                groups=own if part == CROSS_DOMAIN else dict.fromkeys(own, part),
            )
        )
    if not requests:
        raise UserError(f"{path} has no rows; restore the file from a copy")
    return tuple(requests)
