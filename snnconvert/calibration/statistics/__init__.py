"""One streaming pass over the calibration data: order-free statistics of every site."""
