"""Switches that keep every dependency from reporting home; set before the dependency is imported."""

import os

OFF = {
    "DO_NOT_TRACK": "true",  # Prefect's SDK and MLflow; MLflow knows no other value
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "true",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def switch_off() -> None:
    """Set the switches in this process and its children; a value that the user set stays."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
