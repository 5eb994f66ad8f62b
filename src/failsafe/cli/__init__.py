"""The command `failsafe`: one verb a file, each of which parses, calls the library, and prints."""

from failsafe.cli.main import main

__all__ = ["main"]
