"""Calibration and validation data: rows, images, and sets of samples that know their content."""
