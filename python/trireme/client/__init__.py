"""The Python client: clusters and jobs on Kubernetes."""
