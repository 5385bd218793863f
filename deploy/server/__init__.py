"""The server of a bundle over HTTP. Imports no torch and no pipeline."""
