"""Chat templates: rendered as transformers renders them, and stopped where they do not end."""

import dataclasses
import datetime
import time
import tracemalloc

import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import render_chat, train_tokenizer

TOKENIZER = train_tokenizer(["some text"], vocab_size=300)
USER = [{"role": "user", "content": "hi"}]
DAY = datetime.date(2024, 5, 1)


def chat(template, messages=USER, **options):
    return render_chat(dataclasses.replace(TOKENIZER, chat_template=template), messages, **options)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ tools is not none }} {{ documents is none }}", "False True"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "hi"),
        ("{% for i in [1, 2] %}{% generation %}{% break %}{% endgeneration %}{% endfor %}x", "x"),
        ("{% for i in [0, 1, 2] %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
         "02"),
        ("{{ {'b': 'é<', 'a': 1} | tojson }}", '{"b": "é<", "a": 1}'),
        ("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':'))"
         " }}",
         '{"a":"\\u00e9","b":1}'),
        ("{{ [1, {'a': []}] | tojson(indent=2) }}", '[\n  1,\n  {\n    "a": []\n  }\n]'),
        ("{{ pad_token }}|{{ unk_token is defined }}|{{ bos_token }}", "<|pad|>|False|<|bos|>"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
         "{{ ns.n }}", "1"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content')"
         " | join('-') }}",
         "hi"),
        ("{{ '%s is %d' % ('x', 3) }} {{ '{:>3}|{a}'.format(1, a=2) }} {{ 'a' ~ 1 ~ none }}",
         "x is 3   1|2 a1None"),
        ("{% macro f(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call f(1) %}c{% endcall %}",
         "<1c>"),
        ("{{ 'a,b'.split(',')[::-1] | join }}{{ ' x '.strip() }}{{ 'abc'[1:] }}", "baxbc"),
        ("{{ messages[0].get('tool_calls') is none }}{{ messages[0].items() | list }}",
         "True[('role', 'user'), ('content', 'hi')]"),
    ],
)  # fmt: skip
def test_templates_are_rendered_as_transformers_renders_them(template, text):
    assert chat(template) == text


def test_the_date_comes_from_the_caller():
    today = "{{ strftime_now('%d %b %Y') }}"
    assert chat(today, today=DAY) == "01 May 2024"
    assert chat(today, strftime_now=lambda form: "now") == "now"
    guarded = "{% if strftime_now is defined %}" + today + "{% else %}26 Jul 2024{% endif %}"
    assert chat(guarded) == "26 Jul 2024"
    assert chat(guarded, today=DAY) == "01 May 2024"
    with pytest.raises(UserError, match=r"asks for the date .*today=datetime\.date.*strftime_now="):
        chat(today)


def test_templates_by_name():
    several = dataclasses.replace(
        TOKENIZER, chat_template="plain", named_templates={"tool_use": "{{ tools | length }}"}
    )
    assert render_chat(several, USER) == "plain"
    assert render_chat(several, USER, tools=[{"name": "f"}]) == "1"
    assert render_chat(several, USER, template="tool_use", tools=[]) == "0"
    with pytest.raises(UserError, match=r"no chat template 'rag'; .*one of default, tool_use"):
        render_chat(several, USER, template="rag")
    with pytest.raises(UserError, match=r"no chat template 'default'; .*one of tool_use"):
        render_chat(dataclasses.replace(several, chat_template=None), USER)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for", "is malformed, line 1"),
        ("{{ 1 | nothing }}", "is malformed, line 1: No filter named 'nothing'"),
        ("{% break %}", "is malformed.*'break' outside loop"),
        ("{% include 'f' %}", "is malformed.*include is not for chat templates"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "is malformed"),
        ("{{ raise_exception('no system') }}", "refuses these messages: no system$"),
        ("\n{{ 1 // 0 }}", "fails on these messages in line 2: ZeroDivisionError"),
        ("{{ messages[0].name.x }}", "fails on these messages in line 1: UndefinedError.*name"),
        ("{{ messages[0].content.index('q') }}", "fails .*ValueError: substring not found"),
        ("{{ messages.append(1) }}", "fails .*SecurityError.*unsafe"),
        ("{{ ''.__class__.__mro__ }}", "fails .*SecurityError.*unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails .*RecursionError"),
        ("{{ '{0.__class__.__mro__}'.format('') }}", "fails .*SecurityError|fails .*Undefined"),
        ("{{ 'x'.format.formatter.vformat('{}', [1], {}) }}", "fails .*SecurityError"),
        ("{{ 'x' | attr('__class__') | attr('mro') | list | first }}x{{ 'x'.mro() }}", "fails "),
    ],
)
def test_the_error_says_whose_fault_it_is(template, message):
    with pytest.raises(UserError, match=message):
        chat(template)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hi", "messages are a list of mappings, not a str"),
        ({"role": "user"}, "messages are a list of mappings, not a dict"),
        (["hi"], "message 0 is a str, not a mapping with role and content"),
        (USER + [None], "message 1 is a NoneType"),
    ],
)
def test_messages_that_are_none_are_refused(messages, message):
    with pytest.raises(UserError, match=message):
        chat("{{ messages }}", messages)


NS = "{% set ns = namespace(x='a', l=[1], n=3) %}{% for i in range(99999) %}"
BIG = "{% set s = 'a' * 9000000 %}"
HOSTILE = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}"
    "{% endset %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    NS + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    NS + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    NS + "{% set ns.l = ns.l + ns.l %}{% endfor %}",
    NS + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
    NS + "{% set ns.l = (ns.l,) %}{% endfor %}{{ {ns.l: 1} }}",
    NS + "{% set ns.l = ns.l | map('string') %}{% set ns.l = [ns.l, messages] %}{% endfor %}",
    NS + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}{{ ns }}",
    "{{ 'a' * 10**10 }}",
    "{{ ([1] * 10**9) | length }}",
    "{{ range(10**9) }}",
    "{{ 7 ** 100000000 }}",
    "{{ lipsum(n=100000) }}",
    "{{ messages | tojson(indent=10**9) }}",
    "{{ [messages] | tojson(separators=('x' * 10**6, ':')) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%((k))999999999d' % {'(k)': 1} }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d' is odd }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ strftime_now('%1000000000d') }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ 'a' | center(10**10) }}",
    "{{ '\t'.expandtabs(tabsize=10**9) }}",
    "{{ 'a\nb' | indent(10**9) }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ 1.5 | round(10**9, 'ceil') }}",
    BIG + "{{ s.replace('a', s) }}",
    BIG + "{{ s | replace('', s) }}",
    BIG + "{{ s.join(s) }}",
    BIG + "{% for i in range(99999) %}{% set x = s[1:] %}{% endfor %}",
    BIG + "{% for i in range(99999) %}{% if s == s ~ '' %}{% endif %}{% endfor %}",
    BIG + "{% for i in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}",
    BIG + "{{ s.rfind('b' ~ s) }}",
    BIG + "{{ s.strip('b' * 900000 ~ 'a') }}",
    BIG + "{{ s | trim('b' * 900000 ~ 'a') }}",
    BIG + "{{ namespace(*s) }}",
    "{{ range(0, 2305843009213693951 * 99999, 2305843009213693951) | unique | list | length }}",
    "{{ [-10**9] | map('the block') | list }}"
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ range(99999) | map('string') | join('x' * 99999) }}",
    "{% set l = range(90000) | list %}{% for i in l %}{% if 'x' in l %}{% endif %}{% endfor %}",
    "{{ ('9' * 9000000) | int(base=7) }}",
    "x" * 300_000,
    "{{ [" + "1," * 80_000 + "] }}",
    "{{ {" + ",".join(f"{i * (2**61 - 1)}: 1" for i in range(8000)) + "} }}",
]


@pytest.mark.parametrize("template", HOSTILE, ids=range(len(HOSTILE)))
def test_templates_that_do_not_end_or_fill_the_memory_are_stopped(template):
    start = time.perf_counter()
    with pytest.raises(UserError, match="the chat template"):
        chat(template, today=DAY)
    assert time.perf_counter() - start < 30  # some seconds on a busy machine


def test_a_stopped_template_holds_little_memory():
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="it does not end, or builds far more text"):
            chat("{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}"
                 "{% endfor %}")  # fmt: skip
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_long_conversations_are_no_attack():
    """The budget grows with the messages: a million characters in a thousand turns."""
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if '</think>' in m.content %}"
        "{{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m['content'] | trim }}"
        "{% endif %}<|end|>{% endfor %}{{ messages | length }}"
    )
    messages = [{"role": "user", "content": "some words " * 100}] * 1000
    text = chat(template, messages)
    assert text.startswith("<|user|>some words") and text.endswith("<|end|>1000")
    assert len(text) == 1000 * (len("<|user|><|end|>") + 1099) + 4
