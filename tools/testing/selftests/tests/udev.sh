#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: by-uuid, by-label, by-id and partition links with udev
# needs: udev
# kernels: either
# cost: 20
# timeout: 90
# shellcheck source=tools/testing/selftests/lib.sh
. "$(dirname "$0")/../lib.sh"
need sfdisk udevadm
pgrep -x systemd-udevd >/dev/null || pgrep udevd >/dev/null || skip "udev does not run"

rules=$(realpath "$here/../../..")/userspace/etc
rule=$(find "$rules" -name '*qblk*.rules' | head -n 1)
[[ $rule ]] || fail "no udev rules in userspace/etc"
mkdir -p /run/udev/rules.d
cp "$rule" /run/udev/rules.d/
at_exit "rm -f '/run/udev/rules.d/${rule##*/}'; udevadm control --reload"
udevadm control --reload

points_to()
{
	[[ $(realpath "$1" 2>/dev/null) == "$2" ]]
}

uuid=0c1f7f5e-3f1e-4d0e-9a51-6d4c8a0b2f11
qemu-img create -q -f qcow2 whole.qcow2 64M
attach "$PWD/whole.qcow2" --name tank
mkfs.ext4 -q -F -U $uuid -L qblklabel "$dev"
wait_for 10 points_to /dev/disk/by-uuid/$uuid "$dev" ||
	fail "by-uuid did not follow mkfs: $(ls -l /dev/disk/by-uuid 2>&1)"
points_to /dev/disk/by-label/qblklabel "$dev" || fail "no by-label link"
wait_for 10 points_to /dev/disk/by-id/qblk-tank "$dev" ||
	fail "no by-id link: $(ls -l /dev/disk/by-id 2>&1)"
detach "$dev"
udevadm settle
[[ ! -e /dev/disk/by-uuid/$uuid && ! -e /dev/disk/by-id/qblk-tank ]] ||
	fail "links outlive the disk"
# udev watches block devices: its look at them must not make detach fail.
for ((turn = 0; turn < 5; turn++)); do
	attach "$PWD/whole.qcow2" --name tank
	detach "$dev"
done
attach "$PWD/whole.qcow2" --name tank
wait_for 10 points_to /dev/disk/by-uuid/$uuid "$dev" ||
	fail "by-uuid does not come with an attach"
mkdir -p mnt
mount UUID=$uuid mnt
umount mnt
detach tank

qemu-img create -q -f qcow2 parts.qcow2 64M
attach "$PWD/parts.qcow2" --name cut
sfdisk -q "$dev" <<END
label: gpt
size=10M, name=alpha
size=20M, name=beta
END
udevadm settle
for link in by-partlabel/beta by-id/qblk-cut-part2; do
	wait_for 10 points_to /dev/disk/$link "${dev}p2" ||
		fail "no $link: $(ls -l "/dev/disk/${link%/*}" 2>&1)"
done
detach cut
img_check whole.qcow2
img_check parts.qcow2
