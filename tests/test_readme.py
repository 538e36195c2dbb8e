"""The README's example runs as it stands, and its commands exist."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def blocks(name, language):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_runs(capsys):
    example, _ = blocks("README.md", "python")  # tests/test_docs.py runs the other one
    space = {}
    exec(example, space)
    values = np.asarray(space["advantages"].values)
    assert values.shape == (2, 4)
    # The answer with both rewards leads its group, the one with neither trails it.
    assert values.argmax(axis=1).tolist() == [1, 0]
    assert values[0, 3] == values[0].min()
    assert "[" in capsys.readouterr().out


def test_the_two_commands_are_scripts():
    lines = blocks("README.md", "bash")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["scripts/quickstart", "scripts/test"]
    assert all((ROOT / line.split()[0]).is_file() for line in lines)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "BUILD.md",
        "docs/train_your_own.md",
        "experiments/saferec/README.md",
        "experiments/curate/README.md",
        "experiments/reward_design/README.md",
    ],
)
def test_files_that_documents_name_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:docs|scripts|tests|experiments)/[\w/.-]+)`", text)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    here = (ROOT / name).parent
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [link for link in links if not (here / link).exists()] == []
