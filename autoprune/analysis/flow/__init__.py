"""HiMAP's analysis: how information flows between image and text, layer by layer, and what happens where it is cut."""
