"""A key that stands twice is refused in any way of writing it; strings that resemble keys are not keys."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emaps_dagster.electricity_maps.strict_json import UnusableJSONError, parse

TWICE = (
    ('{"a":1,"a":2}', "a"),
    ('{"a" :1,"a":2}', "a"),
    ('{"a"\n:1,"b":" :","a"\t: 2}', "a"),
    ('{"b":":","a":1,"c":[":",{"a":1,"a":1}]}', "a"),
    ('{"x":{"b":{},"b":[]}}', "b"),
    ('{"":1,"":1}', ""),
    (r'{"a":1,"\u0061":2}', "a"),
    (r'{"a\"":1,"b":"\":","a\"":2}', 'a"'),
    # The first fault of the text is named.
    ('{"a":1,"a":2,"b":NaN}', None),
)
ONCE = (
    '{"a":":","b":"::","c":" :"}',
    '{"a" : ": ","A":{"a":1}}',
    '[{"a":1},{"a":1},":"]',
    r'{"a":"\":","b":"\\"}',
    '{"a":": \\" :","é":1.5,"b":[]}',
    '":"',
    "{}",
    '[[],{},":",{"":":"}]',
)


@pytest.mark.parametrize(("text", "key"), TWICE)
def test_a_key_that_stands_twice_is_refused(text: str, key: str | None) -> None:
    with pytest.raises(UnusableJSONError) as error:
        parse(text)
    expected = "it is not strict JSON (NaN is no number)" if key is None else f"the key {key!r} stands twice"
    assert expected in str(error.value)


@pytest.mark.parametrize("text", ONCE)
def test_strings_that_resemble_keys_are_read(text: str) -> None:
    assert parse(text) == json.loads(text)


# Colons, quotes and blanks, of which strings resemble keys; few, so that keys are repeated.
TEXTS = st.text(alphabet='a:" \\', max_size=3)
PAIRS = st.recursive(
    st.one_of(TEXTS, st.integers(-3, 3), st.none()),
    lambda part: st.one_of(st.lists(part, max_size=3), st.lists(st.tuples(TEXTS, part), max_size=3).map(tuple)),
    max_leaves=8,
)


def written(part: object, colon: str) -> str:
    """The JSON text; a tuple is an object of pairs, which may repeat a key."""
    if isinstance(part, tuple):
        return "{" + ",".join(f"{json.dumps(key)}{colon}{written(value, colon)}" for key, value in part) + "}"
    if isinstance(part, list):
        return "[" + ",".join(written(value, colon) for value in part) + "]"
    return json.dumps(part)


def repeats(part: object) -> bool:
    if isinstance(part, tuple):
        keys = [key for key, _ in part]
        return len(set(keys)) < len(keys) or any(repeats(value) for _, value in part)
    return isinstance(part, list) and any(map(repeats, part))


@given(PAIRS, st.sampled_from([":", ": ", " :", "\n:\t"]))
def test_texts_are_refused_if_and_only_if_a_key_is_repeated(part: object, colon: str) -> None:
    text = written(part, colon)
    if repeats(part):
        with pytest.raises(UnusableJSONError, match="stands twice"):
            parse(text)
    else:
        assert parse(text) == json.loads(text)
