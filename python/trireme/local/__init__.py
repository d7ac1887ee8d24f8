"""Laptop mode: the same scripts and manifests without Kubernetes."""
