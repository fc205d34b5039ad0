"""Numbered migrations; each says why it exists."""
