"""The benchmark of scoring runs and agrees with its plain alternative."""

import re
import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[4] / "scripts" / "bench_scoring.py"


def test_the_benchmark_prints_every_number(monkeypatch, capsys):
    sizes = "--recommendations 4000 --films 300 --one-by-one 2000"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *sizes.split()])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert all(re.search(r"\d", line) for line in lines)
    assert lines[0].split()[1] == "4000,"
    (difference,) = [line.split()[-1] for line in lines if line.startswith("largest difference")]
    assert float(difference) < 1e-9
    assert any(line.startswith("one by one / score_lists") for line in lines)
