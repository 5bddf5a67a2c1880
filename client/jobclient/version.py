"""The version, a literal, so that nobody has to read package metadata to know it."""

__version__ = "0.1.0"
