"""Train, sweep, compare and use super-resolution GANs on photographs of any size."""
