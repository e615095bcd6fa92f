#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: partitions are there when attach returns, and only when wanted
# cost: 12
# timeout: 60
# shellcheck source=tools/testing/selftests/lib.sh
. "$(dirname "$0")/../lib.sh"
need sfdisk

qemu-img create -q -f qcow2 parts.qcow2 128M
attach "$PWD/parts.qcow2"
sfdisk -q "$dev" <<END
label: gpt
size=10M, name=one
size=20M, name=two
size=30M, name=three
name=rest
END
disk=${dev##*/}
for n in 1 2 3 4; do
	[[ -b ${dev}p$n ]] || fail "sfdisk made no ${dev}p$n"
done
[[ $(cat "/sys/block/$disk/${disk}p2/size") == $((20 * 2048)) ]] ||
	fail "wrong size of partition 2"
printf 'partition three' | dd of="${dev}p3" bs=512 conv=sync,fsync status=none
start=$(cat "/sys/block/$disk/${disk}p3/start")
[[ $(dd if="$dev" bs=512 skip="$start" count=1 status=none | head -c 15) == \
	"partition three" ]] || fail "partition 3 lies elsewhere"
detach "$dev"
img_check parts.qcow2

# No partprobe, no settle: they have to be there now, time and again.
turns=10
[[ ${QBLK_SCALE:-1} == 1 ]] || turns=3
for ((turn = 0; turn < turns; turn++)); do
	attach "$PWD/parts.qcow2"
	disk=${dev##*/}
	for n in 1 2 3 4; do
		[[ -e /sys/block/$disk/${disk}p$n && -b ${dev}p$n ]] ||
			fail "turn $turn: ${dev}p$n is not there when attach returns"
	done
	[[ $(head -c 15 "${dev}p3") == "partition three" ]] ||
		fail "turn $turn: wrong data in ${dev}p3"
	detach "$dev"
	[[ ! -e ${dev}p1 ]] || fail "turn $turn: ${dev}p1 outlived its disk"
done

attach "$PWD/parts.qcow2" --no-partscan
disk=${dev##*/}
[[ ! -e /sys/block/$disk/${disk}p1 ]] || fail "--no-partscan scanned"
detach "$dev"

# A table on a disk with larger sectors, and one of DOS.
attach "$PWD/parts.qcow2" -s 4096
sfdisk -q --wipe always "$dev" <<END
label: dos
size=32M
size=32M
END
disk=${dev##*/}
[[ $(cat "/sys/block/$disk/${disk}p1/size") == $((32 * 2048)) ]] ||
	fail "4096-byte sectors: wrong size of partition 1"
detach "$dev"
img_check parts.qcow2
