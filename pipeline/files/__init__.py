"""Files on disk, written atomically."""
