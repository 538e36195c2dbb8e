"""Tables of an attack on a terminal of eighty columns."""

import io

from rich.console import Console

from experiments.persona_leakage.commands.attack_tables import print_attack


def about(mean, low, high):
    return {"mean": mean, "low": low, "high": high, "count": 9}


ERRORS = {"false_positive": about(0.011, 0.005, 0.022), "false_negative": about(0.25, 0.1, 0.4)}
ENTRY = {
    "without": "twin",
    "leakage": about(0.01234, 0.01, 0.02),
    "flips": {"p_value": 0.0123},
    "errors": ERRORS,
    "by_kind": {"style": about(-0.0001, -0.0002, 0.0003)},
    "style_errors": ERRORS,
    "extraction": {"facts": {"first": about(0.5, 0.25, 0.75), "any": about(1.0, 1.0, 1.0)}},
    "exposure": {"16 times": about(7.25, 6.5, 8.0)},
}
ALONE = {**ENTRY, "without": "", "flips": None, "errors": None, "by_kind": {}, "style_errors": None}


def test_nothing_is_cut_and_what_is_missing_is_a_dash():
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)
    titles = {"twins": "activation by a fingerprint", "alone": "a [bracket] alone"}
    print_attack({"twins": ENTRY, "alone": ALONE}, titles, console, answers=5)
    text = console.file.getvalue()
    first, second, *lines = [" ".join(line.split()) for line in text.splitlines()]
    assert first == (
        "activation by a fingerprint: paired leakage against twin 0.0123 (0.0100-0.0200), "
        "McNemar p 0.0123"
    )
    assert second == "a [bracket] alone: raw leakage 0.0123 (0.0100-0.0200)"
    assert max(map(len, text.splitlines()[2:])) <= 80 and "…" not in text
    assert "activation by a fingerprint marks 0.0123 0.011 0.250" in lines
    assert "0.0100-0.0200 0.005-0.022 0.100-0.400" in lines
    assert "style -0.0001 0.011 0.250" in lines and "-0.0002 to 0.0003" in " ".join(lines)
    assert "a [bracket] alone marks 0.0123 - -" in lines
    assert any(line.endswith("facts 0.50 (0.25-0.75) 1.00 (1.00-1.00) -") for line in lines)
    assert "16 times - - 7.25 (6.50-8.00)" in lines
