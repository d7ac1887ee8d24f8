#!/bin/sh
# Rules must go where the kubelet of this node puts its own: into nftables' tables or into the legacy ones.
if iptables-nft-save -t mangle 2>/dev/null | grep -q -e KUBE-IPTABLES-HINT -e KUBE-KUBELET-CANARY; then
    mode=nft
else
    mode=legacy
fi
for name in iptables ip6tables; do
    for suffix in "" -save -restore; do
        ln -sf "$name-$mode$suffix" "/usr/sbin/$name$suffix"
    done
done
exec /usr/local/lib/kubernetes/kube-proxy "$@"
