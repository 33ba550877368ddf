"""Information flow between image and text by layer (HiMAP, CVPR 2025): saliency of attention, and edge ablation."""
