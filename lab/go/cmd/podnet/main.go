// Command podnet joins the pod ranges of the nodes: it writes this node's CNI
// configuration from the range that the cluster gave it, and keeps a route to
// every other node's range. Nodes must share one link, as kind's do.
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	configPath = "/etc/cni/net.d/10-podnet.conflist"
	// protocol marks the routes of this program, so that it removes no others.
	protocol = netlink.RouteProtocol(186)
	resync   = 30 * time.Second
)

var conflist = template.Must(template.New("conflist").Parse(`{
  "cniVersion": "0.4.0",
  "name": "podnet",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "{{.}}"}]]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`))

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("NODE_NAME")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, self string) error {
	if self == "" {
		return fmt.Errorf("NODE_NAME is not set: give it the node's name")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	// The Service address answers only once kube-proxy has been here, and that must not be waited for.
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, resync)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	signalChange := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { signalChange() },
		UpdateFunc: func(any, any) { signalChange() },
		DeleteFunc: func(any) { signalChange() },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if err := sync(nodes.Lister(), self); err != nil {
				log.Printf("will retry at the next change or in %s: %v", resync, err)
			}
		}
	}
}

func sync(lister listers.NodeLister, self string) error {
	nodes, err := lister.List(labels.Everything())
	if err != nil {
		return err
	}
	wanted := map[string]net.IP{}
	for _, node := range nodes {
		switch {
		case node.Spec.PodCIDR == "":
		case node.Name == self:
			if err := writeConfig(node.Spec.PodCIDR); err != nil {
				return err
			}
		default:
			if address := internalIP(node); address != nil {
				wanted[node.Spec.PodCIDR] = address
			}
		}
	}
	return syncRoutes(wanted)
}

func internalIP(node *corev1.Node) net.IP {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return net.ParseIP(address.Address)
		}
	}
	return nil
}

func writeConfig(subnet string) error {
	var text bytes.Buffer
	if err := conflist.Execute(&text, subnet); err != nil {
		return err
	}
	if present, err := os.ReadFile(configPath); err == nil && bytes.Equal(present, text.Bytes()) {
		return nil
	}
	temporary := filepath.Join(filepath.Dir(configPath), ".podnet.tmp")
	if err := os.WriteFile(temporary, text.Bytes(), 0o644); err != nil {
		return err
	}
	log.Printf("pods of this node are in %s", subnet)
	return os.Rename(temporary, configPath)
}

func syncRoutes(wanted map[string]net.IP) error {
	ours, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return err
	}
	for i := range ours {
		if address, keep := wanted[ours[i].Dst.String()]; !keep || !address.Equal(ours[i].Gw) {
			if err := netlink.RouteDel(&ours[i]); err != nil {
				return fmt.Errorf("remove route %s: %w", ours[i].Dst, err)
			}
		}
	}
	for subnet, address := range wanted {
		_, destination, err := net.ParseCIDR(subnet)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: destination, Gw: address, Protocol: protocol}); err != nil {
			return fmt.Errorf("route %s via %s: %w", subnet, address, err)
		}
	}
	return nil
}
