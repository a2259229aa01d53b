"""Networks: one file per architecture, shared blocks in ``blocks``."""
