"""Books of options over scenarios: values, risk measures, what explains the P&L, and backtests. numpy only."""
