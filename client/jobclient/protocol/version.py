"""The version of the protocol, a literal that costs nothing to import."""

PROTOCOL_VERSION = 1
"""Grows with every change after which an older peer would misunderstand a newer one."""
