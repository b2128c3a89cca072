"""The YAML loader: what it reads, what it refuses and where it says so."""

import math
import random
import string
from pathlib import Path

import pytest

from weft.core.errors import UserError
from weft.core.runfile import strict_yaml as yamlfile
from weft.core.runfile.strict_yaml import MAX_BYTES, FileErrors, parse_yaml, read_yaml

EXAMPLE = """\
version: 1
prompt: a toy   # a comment
subjects:
  - {phrase: toy, box: [0.05, .4, 1., 9e-1]}
flow: [~, null, true, False, no, 0x1F, 0o17, -3, "3", '', 1:30]
text: |
  two
  lines
"""


def test_scalars_follow_yaml_1_2() -> None:
    assert parse_yaml(EXAMPLE).data == {
        "version": 1,
        "prompt": "a toy",
        "subjects": [{"phrase": "toy", "box": [0.05, 0.4, 1.0, 0.9]}],
        "flow": [None, None, True, False, "no", 31, 15, -3, "3", "", "1:30"],
        "text": "two\nlines\n",
    }


def test_places_are_lines_and_columns_from_one() -> None:
    document = parse_yaml(EXAMPLE)
    assert document.values["subjects", 0, "box", 1] == (4, 31)
    assert document.names["subjects", 0, "box"] == (4, 19)
    assert document.error(("subjects", 0, "box", 9), "a", "b").place == "<text>:4:24"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: expected a mapping of settings, found an empty file"),
        ("a: 1\na: 2", "2:1: expected each name once, found 'a' again. It stands on line 1 already."),
        ("a: &x 1", "1:4: expected no anchors, found '&x'"),
        ("a: *x", "1:4: expected the value itself, found the alias '*x'"),
        ("a: !!python/object/apply:os.system [x]", "1:4: expected no tags"),
        ("a: !local 1", "1:4: expected no tags, found '!local'"),
        ("<<: {a: 1}", "1:1: expected no merge keys, found '<<'"),
        ("true: a", "1:1: expected a name before the colon, found True"),
        ("? [a]\n: b", "1:3: expected a name before the colon"),
        ("a: .nan", "1:4: expected a finite number, found .nan"),
        ("a: -.inf", "1:4: expected a finite number, found -.inf"),
        ("a: 1e999", "1:4: expected a finite number, found 1e999"),
        ("a: " + "9" * 30, "1:4: expected a number of at most 20 digits, found one of 30"),
        ("--- a\n--- b", "2:1: expected one document, found a second one"),
        ("[" * 100_000, "1:33: expected at most 32 levels, found more"),
        (
            "a: b: c",
            "1:5: expected valid YAML, found mapping values are not allowed here. A text that contains ': '",
        ),
        ("a:\n\tb: 1", "2:1: expected valid YAML"),
        ("a: 'open", "1:9: expected valid YAML"),
        ("a: [1, 2", "1:9: expected valid YAML"),
        ("a: \x01", "1:4: expected printable characters, found U+0001"),
        (r'a: "\ud800"', "1:4: expected text, found half a character"),
        (r'a: "\Uffffffff"', "expected valid YAML, found an escape"),
    ],
)
def test_refusals_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(FileErrors) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value).startswith("f.yaml:")
    assert message in str(caught.value)


def test_every_mistake_is_told_in_the_order_of_lines() -> None:
    with pytest.raises(FileErrors) as caught:
        parse_yaml("a: &x 1\nb: .inf\nb: 2\n")
    assert [error.line for error in caught.value.errors] == [1, 2, 3]
    assert caught.value.errors[1].source == "b: .inf"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(FileErrors, match=r"run\.yaml:1:4: expected text in UTF-8, found the byte 0xff"):
        read_yaml(tmp_path / "run.yaml")
    with pytest.raises(FileErrors, match=r"No such file or directory\. Did you mean 'run\.yaml'\?"):
        read_yaml(tmp_path / "runn.yaml")
    with pytest.raises(FileErrors, match="expected a file that can be read, found Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "run.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(FileErrors, match="expected at most 1,000,000 bytes"):
        read_yaml(tmp_path / "run.yaml")


def test_mutated_files_raise_nothing_else() -> None:
    rng = random.Random(0)
    pieces = [
        *string.printable,
        "- ",
        ": ",
        "&a ",
        "*a",
        "!!x ",
        "\n---\n",
        "<<: ",
        ".inf",
        "[[",
        "{{",
        "\\u",
        "%YAML ",
        "é",
        "\0",
    ]
    refused = 0
    for _ in range(2000):
        text = list(EXAMPLE)
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 3)] = rng.choices(pieces, k=rng.randint(0, 3))
        try:
            data = parse_yaml("".join(text)).data
        except FileErrors:
            refused += 1
        else:
            assert _is_plain(data)
    assert 200 < refused < 1900


def _is_plain(data: object) -> bool:
    if isinstance(data, dict):
        return all(type(key) is str and _is_plain(value) for key, value in data.items())
    if isinstance(data, list):
        return all(map(_is_plain, data))
    return data is None or type(data) in (bool, int, str) or (type(data) is float and math.isfinite(data))


@pytest.mark.parametrize("opened", ["[", "{a: ", "[[a,", "[? "])
def test_no_bracket_is_read_beyond_the_deepest_level(opened, monkeypatch) -> None:
    """PyYAML looks ahead, and goes through all open brackets at each further one."""
    read, count = yamlfile._Loader.fetch_flow_collection_start, []

    def counted(loader, token):
        count.append(token)
        return read(loader, token)

    monkeypatch.setattr(yamlfile._Loader, "fetch_flow_collection_start", counted)
    with pytest.raises(UserError, match="at most 32 levels, found more"):
        yamlfile.parse_yaml("a: " + opened * 1_000)
    assert len(count) <= 33
