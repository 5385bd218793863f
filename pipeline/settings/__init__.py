"""params.yaml as checked values, one file a block."""
