"""Video sources: files, cameras, network streams and a synthetic pattern, one frame at a time."""
