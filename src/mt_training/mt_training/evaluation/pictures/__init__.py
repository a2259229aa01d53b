"""Pictures of evaluations, drawn with matplotlib without a display."""
