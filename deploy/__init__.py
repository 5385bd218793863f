"""The exported bundle and its HTTP server: everything that runs away from the training machine."""
