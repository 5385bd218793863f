"""Runs of the pipeline: lock, clean checkout, child processes, when to train."""
