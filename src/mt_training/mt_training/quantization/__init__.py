"""8-bit versions of exported models, made after training or by training."""
