"""Fixtures of this folder."""

from tests.records import empty_store, own_registry  # noqa: F401
