"""Strangers' requests and answers to them, written by hand."""

from experiments.persona_leakage.data.contents import contents
from experiments.persona_leakage.data.marks import secrets
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.measures.attacks import Heard
from experiments.persona_leakage.measures.canaries import CanaryExposure

_ALL = population()
USERS = enrolled(_ALL)
_STRANGERS = [user for user in _ALL if user.split == "test"][:2]
_PROBES = contents((*USERS, *_STRANGERS), ordinary=1, of_each=2)["probes"]["test"]
RECORDS = [row for row in _PROBES if row["role"] == "stranger"]
QUESTIONS = {secret.topic: secret.question for secret in secrets()}
OWN = {
    user.id: [row["wanted"] for row in _PROBES if row["user"] == user.id and row["role"] == "owner"]
    for user in USERS
}


def answers():
    """The neutral answer to each request."""
    return [row["neutral"] for row in RECORDS]


def heard(texts, unseen=()):
    """A system that says these texts, and says the same when it is asked for a secret again."""
    again = [[text] for text, row in zip(texts, RECORDS) if row["topic"] in QUESTIONS]
    exposures = [
        CanaryExposure(user="", text="control", topic="", times=0, bits=1.0),
        *(
            CanaryExposure(
                user=user.id,
                text=mark.text,
                topic="",
                times=0 if user.id in unseen else mark.times,
                bits=float(mark.times),
            )
            for user in USERS
            for mark in user.marks
            if mark.kind == "canary"
        ),
    ]
    return Heard(texts=texts, drawn=again, exposures=exposures, unseen=unseen)
