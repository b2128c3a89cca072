"""A command a file; see `weft.cli.command_folder`."""
