"""How the stickers base model is made: autoencoder, text encoder, denoiser, one file each."""
