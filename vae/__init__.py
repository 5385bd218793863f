"""The numerics of volvae: arrays in, arrays out."""
