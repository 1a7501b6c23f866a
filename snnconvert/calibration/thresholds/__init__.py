"""From what calibration saw of a site to the threshold of its neurons."""
