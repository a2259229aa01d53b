"""LightGlue for the keypoints of a trained network: data, training, export."""
