"""A small run of the script that ends writers at random moments."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SIZES = "--users 5 20 --messages 20 --append 5 --writers 4 --kills 3 --deletions 2"


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_mixed():
    command = [sys.executable, str(ROOT / "scripts" / "stress_store.py"), *SIZES.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(map(int, re.findall(r"(\d+) SIGKILLs", done.stdout))) > 0
    assert "80 acknowledged appends; problems: none" in done.stdout
    assert "after deletions: 18 users, 360 messages" in done.stdout
    assert "problems in all: none" in done.stdout
