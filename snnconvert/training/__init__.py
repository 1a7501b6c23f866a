"""Training of spiking networks: fine-tuning what was converted, learned widths, sparsity, and training from scratch."""
