"""HTML that is escaped by default: only `Html` goes in as it is."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

# characters that HTML documents may not hold
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
VOID = ("img", "meta", "input", "br")


class Html(str):
    """Text that is HTML already."""


def text(value: object) -> Html:
    """Any text as HTML."""
    if isinstance(value, Html):
        return value
    return Html(escape(_FORBIDDEN.sub("\ufffd", str(value)), quote=True))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """An element; ``class_`` stands for ``class``, and an attribute that is None is left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = "".join(text(child) for child in children)
    return Html(f"<{tag}{given}>" if tag in VOID else f"<{tag}{given}>{inner}</{tag}>")


def link(name: str) -> str:
    """A file's name as a relative address; a colon in it starts no scheme."""
    return "./" + quote(name)
