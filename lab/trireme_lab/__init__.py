"""A real, multi-node kind cluster from nothing: engine, node image, images, cluster, operator."""
