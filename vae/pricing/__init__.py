"""Option prices and implied vols, and the simulated models behind them. Imports torch."""
