"""`data`: the embedded population's conversations and probes as a data set, and as a log."""

from pathlib import Path

from rich.console import Console

from experiments.persona_leakage.data.conversations import conversations
from experiments.persona_leakage.data.logs import write_logs
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.tfds_builder import PersonaLeakage
from experiments.persona_leakage.dataset import make_dataset
from experiments.persona_leakage.settings import PersonaPreset
from gdpo_jax.errors import UserError

__all__ = ["data"]

_USUAL = PersonaPreset.__dataclass_fields__


def data(
    data_dir: Path = Path("runs/mini/data"),
    ordinary: int = _USUAL["ordinary"].default,
    of_each: int = _USUAL["of_each"].default,
    sessions: int = _USUAL["sessions"].default,
    writers: int = _USUAL["writers"].default,
    seed: int = 0,
    log: Path | None = None,
) -> None:
    """Write conversations and probes to a folder (TFDS, array_record); print how many there are.

    Args:
        data_dir: folder to write to, in which there is no such data set yet.
        ordinary: everyday exchanges in each enrolled user's history.
        of_each: everyday probes of each user.
        sessions: of each user, which the verifier of writing judges.
        writers: invented ones on whom the verifier is fitted.
        seed: of users and what they say.
        log: also write the conversations to this file, a conversation a line of JSON.
    """
    sizes = {"ordinary": ordinary, "of_each": of_each, "sessions": sessions}
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    rows = make_dataset(data_dir, **sizes, writers=writers, seed=seed)
    folder = data_dir / PersonaLeakage.name
    console = Console(soft_wrap=True)
    for config, splits in rows.items():
        line = ", ".join(f"{name} {len(found)}" for name, found in splits.items())
        console.print(f"{folder}, {config}: {line}", highlight=False, markup=False)
    if log is not None:
        found = conversations(enrolled(population(seed)), ordinary=ordinary, seed=seed)
        write_logs(log, found)
        console.print(f"{log}: {len(found)} conversations", highlight=False, markup=False)
