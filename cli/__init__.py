"""The `weft` command: it parses, calls the core and prints."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.cli', not '{__name__}': the repository root must not be on sys.path")
