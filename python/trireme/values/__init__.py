"""Helm values: layers, origins, checks, edits. Knows no cluster."""
