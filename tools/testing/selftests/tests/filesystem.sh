#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: mkfs, mount, copy a tree, umount, fsck, detach, attach, compare
# variants: ext4 xfs
# kernels: either
# cost: 25
# timeout: 120
# shellcheck source=tools/testing/selftests/lib.sh
. "$(dirname "$0")/../lib.sh"
fs=$QBLK_VARIANT
need "mkfs.$fs"

make_tree tree
size=128M
[[ $fs != xfs ]] || size=320M
qemu-img create -q -f qcow2 fs.qcow2 $size
attach "$PWD/fs.qcow2"
if [[ $fs == ext4 ]]; then
	mkfs.ext4 -q -F "$dev"
else
	mkfs.xfs -q -f "$dev"
fi
mkdir -p mnt
mount "$dev" mnt
at_exit "umount '$PWD/mnt'"
cp -a tree mnt/
sync -f mnt/tree/numbers
# Overwrite, truncate, delete: not only fresh writes.
cp -a tree mnt/second
for n in 1 2 3 4 5 6; do
	dd if=tree/random of=mnt/second/random bs=37k seek=$((n * 9)) count=5 \
		conv=notrunc status=none
done
truncate -s 1000 mnt/second/numbers
rm -r mnt/second/sub
fstrim mnt
diff -r --no-dereference tree mnt/tree
umount mnt
if [[ $fs == ext4 ]]; then
	fsck.ext4 -fn "$dev" >fsck.log 2>&1 || fail "$(cat fsck.log)"
else
	xfs_repair -n "$dev" >fsck.log 2>&1 || fail "$(cat fsck.log)"
fi
detach "$dev"
img_check fs.qcow2

attach "$PWD/fs.qcow2" -r
options=ro
[[ $fs != xfs ]] || options=ro,norecovery
mount -o $options "$dev" mnt
diff -r --no-dereference tree mnt/tree
[[ $(stat -c %s mnt/second/numbers) == 1000 ]] || fail "truncate was lost"
umount mnt
detach "$dev"
img_check fs.qcow2
