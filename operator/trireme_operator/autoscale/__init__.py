"""Sizes of clusters that follow their work."""
