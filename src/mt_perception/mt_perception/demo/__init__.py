"""The demo: the whole system on one sequence, as processes over DDS, and a page that shows what came out."""
