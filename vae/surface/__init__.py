"""What a surface is: coordinates, interpolation, arbitrage. Imports numpy only."""
