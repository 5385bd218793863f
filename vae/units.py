"""Units of the figures."""

BASIS_POINTS = 1e4  # in 1: a vol of 0.2 is 2000 bp
