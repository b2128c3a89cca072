"""The engine: scenes, ports, branches, the UNet walk, the sampler and the registry. It knows no plugin by name."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.core', not '{__name__}': the repository root must not be on sys.path")
