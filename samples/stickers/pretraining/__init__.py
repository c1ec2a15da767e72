"""Training of the stickers base model: autoencoder, text encoder, denoiser, one file each."""
