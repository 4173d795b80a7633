"""Small pure pieces that networks are made of: layers, distributions, the optimizer."""
