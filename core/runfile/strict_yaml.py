"""Reading untrusted YAML: a small loader over parse events that refuses what run files do not need.

PyYAML's own loaders construct Python objects, expand aliases without a limit, let duplicate keys win silently and read
`no` as False. This one reads the events of a single document of at most 1 MB and 32 levels into plain values by the
YAML 1.2 core schema, remembers where each came from, and refuses anchors, aliases, tags, merge keys, duplicate keys,
NaN and infinity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError, did_you_mean
from ..scene.fields import Keys
from ..storage.refusals import READABLE, reason

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_ERRORS = 100
"""Errors after which the rest of a file is not read: every line of a long one can have the same."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_HINTS = {
    "mapping values are not allowed": "A text that contains ': ' needs quotes.",
    r"found character '\t'": "Indent with spaces, not with tabs.",
    "found character '%'": "A text that starts with '%' needs quotes.",
    "found character '@'": "A text that starts with '@' needs quotes.",
    "found character '`'": "A text that starts with '`' needs quotes.",
    "found unexpected end of stream": "Is a quote or a bracket not closed?",
    "expected ',' or": "Is a bracket not closed, or a comma missing?",
    "unknown escape character": "In single quotes a backslash is a plain character.",
}
_NO_NUMBER = "Every setting has bounds; left out, it takes its default."
_LEVELS = (f"at most {MAX_DEPTH} levels", "more", "No setting has that many; is there a bracket too many?")
_UNCLEAR = "Look at the indentation, the quotes and the brackets here and on the line above."
_NO_REFERENCES = "Write the value out wherever it is needed. A text that starts with '&' or '*' needs quotes."
_SURROGATE = re.compile("[\ud800-\udfff]")


class FileError(UserError):
    """An error in a file, with the line it is on.

    Args:
        file: the file's name, as the user gave it.
        line: counted from 1; 0 when the error has no line (the file cannot be read).
        column: counted from 1.
        source: the text of that line.
    """

    def __init__(
        self, file: str, line: int, column: int, source: str, expected: str, found: str, hint: str = ""
    ) -> None:
        super().__init__(f"{file}:{line}:{column}" if line else file, expected, found, hint)
        self.file, self.line, self.column, self.source = file, line, column, source


class FileErrors(UserError):
    """Every error in a file, in the order of its lines; those of other files that it names follow."""

    def __init__(self, errors: list[FileError]) -> None:
        files = list(dict.fromkeys(error.file for error in errors))
        self.errors = tuple(sorted(errors, key=lambda one: (files.index(one.file), one.line, one.column)))
        first = self.errors[0]
        super().__init__(first.place, first.expected, first.found, first.hint)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


@dataclass
class Document:
    """A file's values and their places; also one line of a file, or a value of the command line.

    Args:
        name: the file's name, as the user gave it.
        lines: its text.
        data: None, bool, int, float, str, list and dict (with str keys) only.
        values: (line, column) of each value, by its keys.
        names: (line, column) of each key of a mapping, by its keys.
        warnings: what is no error but may be meant otherwise.
        above: how many lines of the file come before the first of ``lines``.
        inline: a value of the command line, which has no lines: its name alone says where it is.
    """

    name: str
    lines: list[str]
    data: Any = None
    above: int = 0
    inline: bool = False
    values: dict[Keys, tuple[int, int]] = field(default_factory=dict)
    names: dict[Keys, tuple[int, int]] = field(default_factory=dict)
    warnings: list[FileError] = field(default_factory=list)

    def error(
        self, keys: Keys, expected: str, found: str, hint: str = "", at_name: bool = False
    ) -> FileError:
        """An error at the value (or at its name) that these keys lead to, or as near to it as the file goes."""
        while keys and keys not in self.values:
            keys, at_name = keys[:-1], False
        marks = self.names if at_name and keys in self.names else self.values
        return self.at(marks.get(keys, (1, 1)), expected, found, hint)

    def at(self, mark: tuple[int, int], expected: str, found: str, hint: str = "") -> FileError:
        """An error at a line and column."""
        if self.inline:
            return FileError(self.name, 0, 0, "", expected, found, hint)
        line, column = mark
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return FileError(self.name, line + self.above, column, source, expected, found, hint)


def read_yaml(path: str | Path) -> Document:
    """Read one YAML file.

    Raises:
        FileErrors: it is missing, too large, no UTF-8, no YAML, or uses something that is refused.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: str | Path, limit: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8 of at most ``limit`` bytes.

    Raises:
        FileErrors: it is missing, too large or no UTF-8.
    """
    name = str(path)
    try:
        if Path(path).is_fifo() and not name.startswith("/dev/"):  # it would be waited for
            raise FileErrors([FileError(name, 0, 0, "", READABLE, "a pipe")])
        with open(path, "rb") as file:
            raw = file.read(limit + 1)
    except FileErrors:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise _unreadable(Path(path), error) from None
    if len(raw) > limit:
        raise FileErrors(
            [
                FileError(
                    name,
                    0,
                    0,
                    "",
                    f"at most {limit:,} bytes",
                    "more",
                    "Many scenes go into a .jsonl file of their own.",
                )
            ]
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        found = f"the byte 0x{raw[error.start]:02x}"
        raise FileErrors(
            [FileError(name, line, column, "", "text in UTF-8", found, "Save it again as UTF-8.")]
        ) from None


def parse_yaml(text: str, name: str = "<text>", above: int = 0, inline: bool = False) -> Document:
    """Read one YAML document from a string of at most 1 MB; see `read_yaml` and `Document`."""
    if len(text) > MAX_BYTES:
        raise FileErrors([FileError(name, 0, 0, "", f"at most {MAX_BYTES:,} characters", f"{len(text):,}")])
    document = Document(name, text.splitlines(), above=above, inline=inline)
    builder = _Builder(document)
    try:
        builder.read(yaml.parse(text, Loader=_Loader))
    except _TooDeepError as error:
        builder.errors.append(document.at(_place(error.mark), *_LEVELS))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = " ".join(part for part in (error.context, error.problem) if part)
        hint = next((hint for part, hint in _HINTS.items() if part in found), _UNCLEAR)
        builder.errors.append(document.at(_place(mark), "valid YAML", found, hint))
    except FileErrors:
        raise
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark_at = (before.count("\n") + 1, error.position - before.rfind("\n"))
        builder.errors.append(
            document.at(
                mark_at,
                "printable characters",
                f"U+{ord(text[error.position]):04X}",
                "In double quotes it can be written as an escape such as \\u00e9.",
            )
        )
    except (ValueError, OverflowError):  # from PyYAML's scanner
        builder.errors.append(
            document.at((1, 1), "valid YAML", "an escape or a version that is too large", _UNCLEAR)
        )
    if builder.errors:
        raise FileErrors(builder.errors)
    return document


def _unreadable(path: Path, error: OSError | ValueError) -> FileErrors:
    hint = ""
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():
        hint = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    return FileErrors([FileError(str(path), 0, 0, "", READABLE, reason(error), hint)])


def _place(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


class _TooDeepError(Exception):
    """Too many levels; no more of the file is read.

    Args:
        mark: PyYAML's, of the bracket or of the value.
    """

    def __init__(self, mark: Any) -> None:
        super().__init__(mark)
        self.mark = mark


class _Loader(yaml.SafeLoader):
    """Counts open brackets as it meets them.

    Before its first event PyYAML looks up to 1,024 characters ahead for a ':' and goes through all open brackets at
    each further one: a thousand of them take 60 ms.
    """

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise _TooDeepError(self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


class _Builder:
    """Turns events into the data of a document; recoverable errors are collected, so that all are reported at once."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.errors: list[FileError] = []

    def read(self, events: Iterator[Any]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(
                        event, "one document", "a second one", "Take the line '---' out, or write two files."
                    )
                    return
            elif isinstance(event, yaml.NodeEvent):
                self.document.data = self._node(event, events, ())
        if not documents:
            self.errors.append(
                self.document.at(
                    (1, 1),
                    "a mapping of settings",
                    "an empty file",
                    "Is it the right file, and was it saved?",
                )
            )

    def _node(self, event: Any, events: Iterator[Any], keys: Keys) -> Any:
        self.document.values[keys] = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._refuse(event, "the value itself", f"the alias '*{event.anchor}'", _NO_REFERENCES)
        if event.anchor is not None:
            self._refuse(event, "no anchors", f"'&{event.anchor}'", _NO_REFERENCES)
        if event.tag is not None:
            self._refuse(
                event,
                "no tags",
                f"'{event.tag}'",
                "Write the value alone. A text that starts with '!' needs quotes.",
            )
        if isinstance(event, yaml.CollectionStartEvent) and len(keys) >= MAX_DEPTH:
            raise _TooDeepError(event.start_mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, keys)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, keys)
        return self._scalar(event)

    def _sequence(self, events: Iterator[Any], keys: Keys) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, (*keys, len(items))))
        return items

    def _mapping(self, events: Iterator[Any], keys: Keys) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            mark = _place(event.start_mark)
            key = self._node(event, events, (*keys, ""))
            if isinstance(key, (int, float)) and not isinstance(key, bool):
                key = event.value  # as JSON has it: the points of a schedule are named by numbers
            if not isinstance(key, str):
                found = f"{key!r}" if key is not None else "nothing"
                hint = f"In quotes '{event.value}' is a name." if isinstance(event, yaml.ScalarEvent) else ""
                self._refuse(event, "a name before the colon", found, hint or "Write it as name: value.")
            elif key == "<<" and event.style is None:
                self._refuse(event, "no merge keys", "'<<'", "Write the settings out here.")
            elif key in items:
                first = self.document.names[(*keys, key)]
                self._refuse(
                    event, "each name once", f"'{key}' again", f"It stands on line {first[0]} already."
                )
            else:
                self.document.names[(*keys, key)] = mark
                items[key] = self._node(next(events), events, (*keys, key))
                continue
            self._node(next(events), events, (*keys, ""))
        return items

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style is not None:
            return self._joined(event, text) if _SURROGATE.search(text) else text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            return self._refuse(event, "a finite number", text, _NO_NUMBER)
        if _INTEGER.fullmatch(text):
            if len(text) > 20:
                return self._refuse(
                    event, "a number of at most 20 digits", f"one of {len(text)}", "In quotes it is a text."
                )
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if _FLOAT.fullmatch(text):
            number = float(text)
            return (
                number
                if abs(number) != float("inf")
                else self._refuse(event, "a finite number", text[:40], _NO_NUMBER)
            )
        self._warn_of_comment(event)
        return text

    def _warn_of_comment(self, event: Any) -> None:
        """A text without quotes ends where ' #' begins a comment, also where it was meant to go on: "ball #2"."""
        mark = event.end_mark
        line = self.document.lines[mark.line] if mark.line < len(self.document.lines) else ""
        rest = line[mark.column :].lstrip()
        if re.match(r"#[^\s#!=-]", rest):
            hint = "Put the whole text in quotes, or a space behind the '#' of a comment."
            found = f"'{rest[:40]}', a comment"
            place = mark.line + 1, len(line) - len(rest) + 1
            self.document.warnings.append(self.document.at(place, "a text in quotes", found, hint))

    def _joined(self, event: Any, text: str) -> str | None:
        """Text in which JSON has written a character as two halves."""
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, "text", "half a character", "Write the character itself.")
            return None

    def _refuse(self, event: Any, expected: str, found: str, hint: str = "") -> None:
        self.errors.append(self.document.at(_place(event.start_mark), expected, found, hint))
        if len(self.errors) >= MAX_ERRORS:
            raise FileErrors(self.errors)
