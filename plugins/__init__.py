"""The built-in conditioners and guidance strategies, one file or one folder a method."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.plugins', not '{__name__}': the repository root must not be on sys.path")
