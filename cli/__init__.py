"""The `weft` command: it parses, calls the core and prints. Free of torch until an image is drawn."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.cli', not '{__name__}': the repository root must not be on sys.path")


def main() -> None:
    """Entry point of the command."""
    from .app import app

    app(prog_name="weft")
