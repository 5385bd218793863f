"""The variational autoencoder: linear start, encoder, decoder, ELBO, prior, completion. Imports torch."""
