"""The operator behind WorkerCluster and WorkerJob."""
