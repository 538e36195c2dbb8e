"""What an assistant's memory holds of a user, and how it is searched for a request.

It is searched by topic and without a mistake, so that what is compared is whose memory is opened,
and not how well it is searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.persona_leakage.data.marks import note, secret_of, secrets
from experiments.persona_leakage.data.users import SECRETS, Mark

__all__ = ["Note", "notes_of", "on_topic"]


@dataclass(frozen=True, kw_only=True)
class Note:
    """One thing to know of a user.

    topic: of the secret that it states; empty where it says how to talk to him, whatever about
    """

    topic: str
    text: str


def notes_of(marks: Sequence[Mark]) -> tuple[Note, ...]:
    """A note for each mark, in order."""
    return tuple(
        Note(
            topic=secret_of(mark.question).topic if mark.kind in SECRETS else "",
            text=note(mark),
        )
        for mark in marks
    )


def on_topic(notes: Sequence[Note], topic: str) -> tuple[str, ...]:
    """The texts of the notes on a topic: of the secret of that name, else how to talk to him;
    nothing about a secret that no note states."""
    wanted = topic if any(secret.topic == topic for secret in secrets()) else ""
    return tuple(one.text for one in notes if one.topic == wanted)
