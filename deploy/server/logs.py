"""Logs as one JSON object a line on standard error. Of requests they hold shapes only, never values."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_logger = logging.getLogger("volvae")
_LEVELS = {
    "volvae": logging.INFO,
    "uvicorn.error": logging.ERROR,  # it warns of what clients send, who could fill a disk with that
    "asyncio": logging.WARNING,
    "py.warnings": logging.WARNING,
}


class _Lines(logging.Formatter):
    """Time, level, message, and the fields that came with it; of an error its type and place, not what it says."""

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
    """What is worth a line."""
    _logger.info(message, extra={"fields": fields})


def warning(message: str, **fields: object) -> None:
    """What somebody should look at."""
    _logger.warning(message, extra={"fields": fields})


def failure(message: str, error: BaseException, **fields: object) -> None:
    """A fault of the server: the kind of the error and where it came from."""
    _logger.error(message, exc_info=error, extra={"fields": fields})


class Once:
    """Warns of what stays wrong once, and again when the reason is another or it was well in between."""

    def __init__(self) -> None:
        self._reason = ""

    def warning(self, message: str, reason: str) -> bool:
        """Warn, and whether that was new."""
        line = " ".join(reason.split())
        new, self._reason = line != self._reason, line
        if new:
            warning(message, reason=line)
        return new

    def well(self) -> None:
        """It is mended."""
        self._reason = ""
