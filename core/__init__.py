"""The engine: scenes, ports, branches, the UNet's forward pass, the sampler and the registry. It names no plugin."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.core', not '{__name__}': the repository root must not be on sys.path")
