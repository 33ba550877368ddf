"""Calibration and validation data: rows, images, and sample sets with a digest of their content."""
