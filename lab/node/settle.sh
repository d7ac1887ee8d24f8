#!/bin/sh
# Run by mmdebstrap on the node's root file system: leaves of systemd what a container can run.
set -eu
root=$1
units=$root/lib/systemd/system
rm -f "$units/sysinit.target.wants/systemd-tmpfiles-setup.service" \
    "$units"/multi-user.target.wants/* \
    "$root"/etc/systemd/system/*.wants/* \
    "$units"/local-fs.target.wants/* \
    "$units"/sockets.target.wants/*udev* \
    "$units"/sockets.target.wants/*initctl* \
    "$units"/basic.target.wants/*
rm -f "$units/containerd.service"
ln -sf /lib/systemd/systemd "$root/sbin/init"
# Hosts of the first boot; kind and Docker write these themselves.
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/machine-id"
