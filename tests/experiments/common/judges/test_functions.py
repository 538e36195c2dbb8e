"""Function judges, and verdicts that are remembered."""

import contextlib

import pytest

from experiments.common.chats.cache import open_store
from experiments.common.judges.functions import function_judge, load_function, remembering
from experiments.common.judges.verdict import Verdict, read_json_object, unread
from gdpo_jax.errors import UserError


def test_an_unread_verdict_has_no_label():
    assert unread("no JSON", "hm") == Verdict(None, "no JSON", "hm", read=False)
    with pytest.raises(ValueError, match="an unread verdict has no label"):
        Verdict("fail", read=False)


def test_json_among_words():
    assert read_json_object('Well: {"a": {"b": 1}}, that is it.') == {"a": {"b": 1}}
    for text in ("", "}{", "{", "[1]", '{"a": }', '{"a":' * 100_000 + "}"):
        with pytest.raises(ValueError):
            read_json_object(text)


def test_functions():
    judge = function_judge(len, name="len", read=Verdict)
    assert judge(["ab", ""]) == [Verdict(2), Verdict(0)]
    with pytest.raises(UserError, match=r"judge 'len' failed on 3: TypeError\("):
        judge([3])
    assert load_function("math:sqrt")(4.0) == 2.0
    with pytest.raises(UserError, match="give MODULE:FUNCTION, or rules"):
        load_function("math:nothing", what="judge", others=", or rules")


def test_verdicts_are_remembered_and_unread_ones_are_not(tmp_path):
    asked = []

    def judge(cases):
        asked.extend(cases)
        if "bad" in cases:
            raise UserError("out of tokens")
        return [unread("?") if case == "hm" else Verdict(len(case), "long", case) for case in cases]

    with contextlib.closing(open_store(tmp_path / "answers")) as store:
        kept = remembering(judge, store, name="j", request=lambda case: [case])
        with pytest.raises(UserError, match="out of tokens"):
            kept(["a", "bad", "b"])
        assert kept(["a", "hm", "b"]) == [
            Verdict(1, "long", "a"),
            unread("?"),
            Verdict(1, "long", "b"),
        ]
        assert asked == ["a", "bad", "hm", "b"]
        kept(["a", "hm"])
        remembering(judge, store, name="other", request=lambda case: [case])(["a"])
        assert asked[4:] == ["hm", "a"]
