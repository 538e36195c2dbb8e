"""The benchmark of a page: time, messages and requests of a small one."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[4] / "scripts" / "bench_report.py"


@pytest.mark.slow
def test_what_a_page_says_and_asks_for_is_told(chromium, tmp_path):
    del chromium  # skips where there is none
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img src="other.png"><script>console.log("heard")</script>')
    # A process has room for one Playwright, and that is the fixture's.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(page), "--repeats", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "loaded in" in done.stdout
    assert "heard" in done.stdout and "other.png" in done.stdout
