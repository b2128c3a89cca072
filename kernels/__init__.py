"""One folder an operation: its readable reference, its Triton kernel and the dispatcher that picks between them."""

if not __name__.startswith("weft."):
    raise ImportError(f"import 'weft.kernels', not '{__name__}': the repository root must not be on sys.path")
