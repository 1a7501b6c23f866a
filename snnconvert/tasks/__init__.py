"""What networks are judged by: classification, segmentation and detection, with intervals over images."""
