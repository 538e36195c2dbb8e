import pytest

from gdpo_jax.files import write_beside
from gdpo_jax.policies import train_tokenizer


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    for content in ("ä\n", "ö\n".encode(), lambda beside: beside.write_text("ü\n")):
        write_beside(path, content)
        assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "ü\n"


@pytest.mark.parametrize("error", [OSError("disk is full"), KeyboardInterrupt()])
def test_a_writing_that_fails_leaves_the_file_that_was_there(tmp_path, error):
    def half(beside):
        beside.write_text("ha")
        raise error

    path = tmp_path / "a.txt"
    path.write_text("whole")
    with pytest.raises(type(error)):
        write_beside(path, half)
    assert path.read_text() == "whole"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_tokenizer_is_never_seen_half_written(tmp_path, monkeypatch):
    tokenizer = train_tokenizer(["one two three"], vocab_size=300, special_tokens=[])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    whole = path.read_bytes()

    def torn(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", torn)
    with pytest.raises(KeyboardInterrupt):
        tokenizer.save(path)
    assert path.read_bytes() == whole
