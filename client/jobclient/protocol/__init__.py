"""The vocabulary both sides share. The daemon may import from here and from `paths`, nothing else of jobclient."""

PROTOCOL_VERSION = 1
"""Grows with every change after which an older peer would misunderstand a newer one; here, where it costs nothing."""
