"""Surfaces: coordinates, interpolation, static arbitrage. Imports numpy only."""
