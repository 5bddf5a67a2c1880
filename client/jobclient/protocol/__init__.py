"""The vocabulary both sides share. The daemon may import from here and from `paths`, nothing else of jobclient."""
