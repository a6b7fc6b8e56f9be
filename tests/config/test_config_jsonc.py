"""The parser: what JSON it takes, and that nothing but `ConfigError` comes out of it."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given, strategies as st

from cross_instance.config.jsonc import MAX_DEPTH, Node, parse
from cross_instance.errors import ConfigError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SCRAPS = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            '"',
            "\\",
            "//",
            "/*",
            "*/",
            "#",
            "\n",
            "1",
            "-",
            ".",
            "e5",
            "NaN",
            "true",
            "null",
            '"a"',
        ]
    )
    | st.characters()
).map("".join)


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


@hypothesis.settings(deadline=None)
@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_all_json_is_read_as_it_is(value: Any, indent: int | None, ascii_only: bool) -> None:
    def close(left: Any, right: Any) -> bool:
        """Equal, whole numbers beyond `MAX_DIGITS` digits as floats."""
        if isinstance(left, dict):
            return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
        if isinstance(left, list):
            return len(left) == len(right) and all(map(close, left, right))
        return bool(left == right or (isinstance(left, float) and left == float(right)))

    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert close(plain(parse(text, "file")), value)


@hypothesis.settings(deadline=None)
@given(SCRAPS | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    refusal = ""
    try:
        parse(text, "file")
    except ConfigError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("file:")
    assert "\n" not in refusal


def test_comments_of_three_kinds_and_trailing_commas() -> None:
    text = """# first
    {   // second
      "a": 1,  # 増やす
      /* third { " */ "b": ["x // no comment", "# nor this",],
    } // end"""
    assert plain(parse(text, "file")) == {"a": 1, "b": ["x // no comment", "# nor this"]}


def test_a_member_has_the_line_of_its_key() -> None:
    root = parse('{\n  "a": 1,\r\n\n  "b":\n    [2]\n}', "file")
    assert isinstance(root.value, dict)
    assert {key: node.line for key, node in root.value.items()} == {"a": 2, "b": 4}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected a value, found the end of the file"),
        ('{\n"a": 1\n"b": 2}', 3, "expected `,` or `}`, found a text"),
        ('{"a": NaN}', 1, "expected a value, found `NaN`"),
        ('{"a": -Infinity}', 1, "expected a value, found `-Infinity`"),
        ('{"a": 01}', 1, "expected a value"),
        ("{'a': 1}", 1, "expected a key in double quotes, found `'`"),
        ('{"a": 1,\n\n "a": 2}', 3, "the key `a` is given twice, first in line 1"),
        ('{"a": "\n"}', 1, "a text is not closed on its line"),
        (r'{"a": "\q"}', 1, "a text cannot be read"),
        ('{"a": 1} }', 1, "expected the end of the file, found `}`"),
        ('{\n/* "a": 1}', 2, "a comment that is not closed"),
        ("[" * (MAX_DEPTH + 2), 1, f"nested more than {MAX_DEPTH} deep"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "dir/config.json")
    assert caught.value.origin == f"dir/config.json:{line}"
    assert message in str(caught.value)


def test_a_number_of_any_length_is_read() -> None:
    assert plain(parse("[" + "9" * 30 + "]", "file")) == [int("9" * 30)]
    assert plain(parse("[" + "9" * 5_000 + "]", "file")) == [float("inf")]
