"""docs/objectives.md says of every public name how it is reached."""

import re
from pathlib import Path

from gdpo_jax import objectives

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"


def test_the_page_names_what_the_package_exports():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = [name for line in rows for name in re.findall(r"`(\w+)`", line.split(" | ")[0])]
    assert sorted(named) == sorted(objectives.__all__)
