"""What runs away from the training machine: the exported bundle and HTTP."""
