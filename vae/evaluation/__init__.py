"""Held-out figures of a trained model. Imports torch and scikit-learn."""
