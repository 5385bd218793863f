"""Training: the trainer, its optimiser, its penalty and several processes. Imports torch."""
