"""Environment variables that turn off the telemetry of all dependencies; set before these are imported."""

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
    """Set the variables for this process and its children, but for those that the user set."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
