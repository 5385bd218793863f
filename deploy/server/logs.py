"""Logs on standard error, one JSON object per line. They hold shapes of requests, never their values."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_logger = logging.getLogger("volvae")
_LEVELS = {
    "volvae": logging.INFO,
    "uvicorn.error": logging.ERROR,  # its warnings quote what clients send, who could fill a disk with them
    "asyncio": logging.WARNING,
    "grpc": logging.ERROR,
    "py.warnings": logging.WARNING,
}


class _Lines(logging.Formatter):
    """Time, level, message and fields of a record; of an error its type and traceback, not its text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = type(record.exc_info[1]).__name__
            line["at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line)


def configure() -> None:
    """Send the logs of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.captureWarnings(capture=True)


def info(message: str, **fields: object) -> None:
    """Log an event of normal operation."""
    _logger.info(message, extra={"fields": fields})


def warning(message: str, **fields: object) -> None:
    """Log a problem that an operator should look at."""
    _logger.warning(message, extra={"fields": fields})


def failure(message: str, error: BaseException, **fields: object) -> None:
    """Log a fault of the server: the type of the error and its traceback."""
    _logger.error(message, exc_info=error, extra={"fields": fields})


class Once:
    """Logs a lasting problem once, and again if its reason changes or after it was solved."""

    def __init__(self) -> None:
        self._reason = ""

    def warning(self, message: str, reason: str) -> bool:
        """Log the problem unless that was done; whether it was logged now."""
        line = " ".join(reason.split())
        new, self._reason = line != self._reason, line
        if new:
            warning(message, reason=line)
        return new

    def reset(self) -> None:
        """Forget the last problem, so that the next one is logged."""
        self._reason = ""
