"""The stages of volvae: read files, call vae, write files."""
