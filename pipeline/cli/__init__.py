"""The command volvae."""
