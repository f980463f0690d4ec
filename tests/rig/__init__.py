"""Cameras, a proxy that breaks connections, and numbered frames, for tests of network sources."""
