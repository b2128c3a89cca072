"""Many images: planned, drawn by an engine, kept in a folder that resumes, reproduced."""
