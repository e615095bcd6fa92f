#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: swap on qblk under memory pressure
# kernels: either
# cost: 25
# timeout: 120
#
# A memory cgroup makes the pressure, so that the size of the machine does not
# matter.  The pages written out have to come back as they were.
# shellcheck source=tools/testing/selftests/lib.sh
. "$(dirname "$0")/../lib.sh"
need mkswap swapon

group=/sys/fs/cgroup/qblk-swap
if [[ ! -e /sys/fs/cgroup/cgroup.controllers ]]; then
	mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null || skip "no cgroup2"
	at_exit "umount /sys/fs/cgroup"
fi
grep -qw memory /sys/fs/cgroup/cgroup.controllers || skip "no memory cgroup"
echo +memory >/sys/fs/cgroup/cgroup.subtree_control

qemu-img create -q -f qcow2 swap.qcow2 256M
attach "$PWD/swap.qcow2"
mkswap "$dev" >/dev/null
swapon "$dev"
at_exit "swapoff $dev"

# Fills memory with a pattern, more than it may keep, and checks it twice.
cat >pressure.py <<'END'
import mmap
import sys

size = int(sys.argv[1]) << 20
area = mmap.mmap(-1, size)
page = 4096
for turn in range(2):
    for at in range(0, size, page):
        stamp = (at // page * 7 + turn).to_bytes(8, "little")
        if turn and area[at:at + 8] != (at // page * 7 + turn - 1).to_bytes(8, "little"):
            sys.exit(f"page {at // page} came back wrong in turn {turn}")
        area[at:at + 8] = stamp
        area[at + page - 8:at + page] = stamp
for at in range(0, size, page):
    if area[at:at + 8] != area[at + page - 8:at + page]:
        sys.exit(f"page {at // page} is torn")
END

out_before=$(awk '/^pswpout/ { print $2 }' /proc/vmstat)
mkdir $group
at_exit "rmdir $group"
echo 16M >$group/memory.max
(
	echo $BASHPID >$group/cgroup.procs
	exec /usr/bin/python3 pressure.py 28
) || fail "memory came back wrong"
out=$(($(awk '/^pswpout/ { print $2 }' /proc/vmstat) - out_before))
echo "  $out pages written out"
((out > 1000)) || fail "there was no pressure: $out pages written out"

swapoff "$dev"
detach "$dev"
img_check swap.qcow2
