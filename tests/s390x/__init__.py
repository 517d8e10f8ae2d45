"""Tests of S390 CPU models beyond the crate: a simulated KVM on a big-endian machine, probing, QEMU as a peer, libvirt."""
