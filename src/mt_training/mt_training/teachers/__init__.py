"""Large models out of local files that label images: one interface over ONNX, TFLite and TorchScript."""
