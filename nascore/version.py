"""The version, also of a folder on the path that was never installed."""

__version__ = "0.1.0"
