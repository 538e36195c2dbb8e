"""The benchmark runs and agrees with its loop."""

import re
import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_advantages.py"


def test_the_benchmark_prints_every_number(monkeypatch, capsys):
    sizes = "--prompts 6 --samples 4 --rewards 2 --repeats 2 --copy-megabytes 1"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *sizes.split()])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert all(re.search(r"\d", line) for line in lines[1:])
    (difference,) = [line.split()[-1] for line in lines if line.startswith("largest difference")]
    assert float(difference) < 1e-5
    titles = ("loop / gdpo", "temporary memory", "bandwidth of a copy", "share of the bandwidth")
    assert all(any(line.startswith(title) for line in lines) for title in titles)
