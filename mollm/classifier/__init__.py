"""The classifier that keeps learning: `head` on frozen embeddings, `top` and `full` on a tuned encoder."""
