"""The tiny encoder, for these tests."""

from tests.tiny_encoder import tiny

__all__ = ["tiny"]
