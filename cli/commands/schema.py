"""Print the JSON Schema of run files, with the plugins that are installed, for editors."""

from __future__ import annotations

import json

from ...core.api.registry import registry
from ...core.runfile.json_schema import run_file_schema
from ...core.storage.atomic import write_file
from ..exit_code import Exit
from ..inspection import sound
from ..options import OutputFile
from ..printing import errors, out


def run(output: OutputFile = None) -> Exit:
    """Print the schema, or write it to a file. Exit code 3 when a broken plugin is left out of it."""
    plugins, broken = sound(registry())
    text = json.dumps(run_file_schema(plugins), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_file(text.encode(), output)
        out.print(f"The schema is {output}. The first line of a run file names it:")
        out.print(f"# yaml-language-server: $schema={output.name}", markup=False)
    for one in broken:
        errors.print(f"broken, and not in it: '{one.name}' of distribution '{one.distribution}': {one.error}")
    return Exit.PARTIAL if broken else Exit.OK
