"""Versions of the model in MLflow: lineage, the gate, aliases."""
