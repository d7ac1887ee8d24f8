"""The operator behind WorkerCluster, WorkerGroup and WorkerJob."""
