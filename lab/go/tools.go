//go:build tools

// Package lab keeps the programs that are built as they are in go.mod.
package lab

import (
	_ "github.com/rancher/local-path-provisioner"
	_ "go.etcd.io/etcd/server/v3"
	_ "helm.sh/helm/v4/cmd/helm"
	_ "sigs.k8s.io/kind"
	_ "sigs.k8s.io/metrics-server/cmd/metrics-server"
)
