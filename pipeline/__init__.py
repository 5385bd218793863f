"""The pipeline: five stages that read files, call vae and write files, and what they stand on."""
