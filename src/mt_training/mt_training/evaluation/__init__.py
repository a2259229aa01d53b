"""Evaluation of models under the model contract: segmentation, depth, keypoints, place recognition."""
