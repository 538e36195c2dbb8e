"""Files that grow row by row: what a kill leaves behind, and what is damage."""

import json
import signal
import subprocess
import sys

import pytest

from experiments.common.files.json_rows import write_rows
from experiments.common.files.row_log import append_row, read_log
from gdpo_jax.errors import UserError

ROWS = [{"step": 1, "text": "ä\u2028b"}, {"step": 2}]
WHOLE = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def test_rows_come_back(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    assert read_log(path) == []
    for row in ROWS:
        append_row(path, row)
    assert path.read_bytes() == WHOLE
    assert read_log(path) == ROWS


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_a_file_cut_anywhere_is_read_and_goes_on(tmp_path, length):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WHOLE[:length])
    # A row counts from its closing brace on.
    ends = [WHOLE.index(b"}") + 1, len(WHOLE) - 1]
    kept = ROWS[: sum(length >= end for end in ends)]
    assert read_log(path) == kept
    append_row(path, {"step": 3})
    assert read_log(path) == [*kept, {"step": 3}]
    assert path.read_bytes().endswith(b'\n{"step": 3}\n' if kept else b'{"step": 3}\n')


@pytest.mark.parametrize(
    "tail", [b"\0\0\0", b'{"a": "\xc3', b"12", b"[1]", b'{"a": "' + b"x" * 70_000]
)
def test_other_torn_tails(tmp_path, tail):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WHOLE + tail)
    assert read_log(path) == ROWS
    append_row(path, {"step": 3})
    assert read_log(path) == [*ROWS, {"step": 3}]


@pytest.mark.parametrize("line", [b"{", b"", b"[]", b"3", b"\xff", b"\0\0", b"[" * 100_000])
def test_damage_is_named_by_file_and_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WHOLE + line + b"\n" + WHOLE)
    with pytest.raises(UserError, match=r"rows\.jsonl, line 3 is damaged"):
        read_log(path)


def test_what_cannot_be_opened_is_one_message(tmp_path):
    for use in (lambda path: append_row(path, {}), read_log):
        with pytest.raises(UserError, match=r"cannot .* directory"):
            use(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        append_row(tmp_path / "file" / "rows.jsonl", {})
    with pytest.raises(UserError, match="cannot write"):
        write_rows(tmp_path / "none" / "rows.jsonl", ROWS)


def test_a_writing_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS)
    with pytest.raises(TypeError):
        write_rows(path, [{"step": 3}, {"step": object()}])
    with pytest.raises(TypeError):
        append_row(path, {"step": object()})
    assert path.read_bytes() == WHOLE
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]


def test_killed_writers_lose_no_row_that_was_reported(tmp_path):
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys, pathlib, itertools\n"
        "from experiments.common.files.row_log import append_row\n"
        "for n in itertools.count():\n"
        "    append_row(pathlib.Path(sys.argv[1]), {'n': n, 'text': 'x' * 5000})\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    reported = [int(process.stdout.readline()) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    reported += [int(line) for line in process.communicate()[0].splitlines() if line.strip()]
    numbers = [row["n"] for row in read_log(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= len(reported)
