"""Tables of a verifier on a terminal of eighty columns."""

import io

import numpy as np
from rich.console import Console

from experiments.persona_leakage.commands.fingerprint_tables import (
    evaluation_tables,
    fitted_table,
    length_name,
    scorers_table,
)
from experiments.persona_leakage.fingerprint.evaluation import Activation, Alone, Compared
from experiments.persona_leakage.fingerprint.verification import verify

SAME = np.array([1, 1, 1, 0, 0, 0])  # worked out by hand
FOUND = verify(SAME, np.array([0.9, 0.5, 0.3, 0.2, 0.5, 0.8]))
COMPARED = Compared(
    verifier=FOUND,
    baseline=FOUND,
    verifier_interval=(0.101, 0.202),
    baseline_interval=(0.303, 0.404),
    gain=-0.987,
    gain_interval=(-0.505, -0.606),
)
ALONE = Alone(aucs=(0.121, 0.232, 0.343), trained=0.111, trained_interval=(-0.454, 0.565))
ACTIVATION = Activation(
    equal_error_rate=0.111,
    false_acceptance_at_tenth=0.222,
    false_acceptance=0.333,
    false_rejection=0.444,
    precisions=(0.555, 0.666, 0.777),
    coverage=0.888,
    c_at_1=0.999,
)


def printed(*tables):
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)
    for table in tables:
        console.print(table, soft_wrap=False)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    return text


def test_nothing_of_an_evaluation_is_cut():
    names = [
        f"{name}{part}" for name in map(length_name, (None, 500)) for part in ("", ", none seen")
    ]
    text = printed(
        *evaluation_tables(
            dict.fromkeys(names, COMPARED),
            dict.fromkeys(names, ALONE),
            dict.fromkeys(names, ACTIVATION),
            {"phrases, 100% of sentences": {"accepted": 0.123, "mean score": 0.456}},
        )
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "whole verifier 0.611 0.444 0.417 0.500 0.720 0.272 0.101, 0.202" in lines
    assert "500, none seen 0.121 0.232 0.343 +0.111 -0.454, 0.565" in lines
    assert "whole, none seen 0.111 0.222 0.333 0.444 0.888 0.999" in lines
    assert "500, none seen 0.555 0.666 0.777" in lines
    assert "gain -0.987 -0.505, -0.606" in lines
    assert "phrases, 100% of sentences 0.123 0.456" in lines


def test_a_fit_has_a_row_for_each_length():
    text = printed(
        fitted_table({length_name(n): (FOUND, 0.25) for n in (140, 5000)}),
        scorers_table({length_name(n): ALONE for n in (140, 5000)}),
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "5000 0.611 0.444 0.272 0.250" in lines
    assert "5000 0.121 0.232 0.343 +0.111 -0.454, 0.565" in lines
