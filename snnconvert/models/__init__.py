"""Where networks come from: timm, a checkpoint, or the embedded digits network."""
