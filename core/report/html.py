"""Pages from the templates beside this file. Whatever goes into one is escaped. Free of torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# characters that HTML documents may not hold
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: the name of a file in the folder ``templates``, without ``.html.jinja``.
        values: what the template names.
    """
    return _ENVIRONMENT.get_template(f"{template}.html.jinja").render(values)


def _link(name: str) -> str:
    """A file's name as a relative address; a colon in it starts no scheme."""
    return "./" + quote(os.fsencode(name))  # a name on a disk need not be UTF-8


def _allowed(value: Any) -> Any:
    return value if isinstance(value, Markup) else _FORBIDDEN.sub("\ufffd", str(value))


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_allowed,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["link"] = _link
