#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: make install and uninstall leave nothing; dkms.conf builds
# needs: host
# kernels: either
# cost: 200
# timeout: 900
set -euo pipefail

top=$(realpath "$(dirname "$(realpath "$0")")/../../../..")
kernel=6.12
[[ ${1-} != -k ]] || kernel=$2
unset MAKEFLAGS MFLAGS MAKELEVEL

fail()
{
	echo "  $*"
	exit 1
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
kdir=$("$top/tools/vm/run" -k "$kernel" --print-kdir)
release=$("$top/tools/vm/run" -k "$kernel" --print-kernel)

run_make()
{
	make -s -C "$top" KDIR="$kdir" BUILD="${QBLK_BUILD:-$top/build}" "$@"
}

run_make install DESTDIR="$tmp/root" >"$tmp/log" 2>&1 || fail "install: $(tail "$tmp/log")"
# The kernel may want its modules compressed.
cd "$tmp/root"
for file in "lib/modules/$release/extra/qblk.ko"* usr/local/sbin/qblkctl \
	lib/udev/rules.d/60-qblk.rules; do
	[[ -e $tmp/root/$file ]] || fail "install has not made $file: $(find "$tmp/root" -type f)"
done
run_make uninstall DESTDIR="$tmp/root" >"$tmp/log" 2>&1 || fail "uninstall: $(tail "$tmp/log")"
left=$(find "$tmp/root" ! -type d)
[[ -z $left ]] || fail "uninstall leaves $left"

# kbuild leaves depmod out where there is no System.map, as in Debian; without
# it modprobe does not find the module.
commands=$(run_make -n install)
grep -qxF "depmod $release" <<<"$commands" || fail "install does not run depmod"
commands=$(run_make -n install DESTDIR="$tmp/root")
! grep -qE "^ *depmod " <<<"$commands" || fail "install runs depmod for another root"

# What dkms does: a copy of the tree, and the commands of dkms.conf in it.
dkms_tree=$tmp/dkms
tree=$dkms_tree/qblk/0.1/build
mkdir -p "$tree"
cp -r "$top/Kbuild" "$top/kmod" "$top/uapi" "$top/dkms.conf" "$tree"
# shellcheck disable=SC2034	# for dkms.conf
kernel_source_dir=$kdir
# shellcheck source=dkms.conf
. "$tree/dkms.conf"
[[ $release =~ $BUILD_EXCLUSIVE_KERNEL ]] || fail "dkms.conf refuses $release"
[[ ! 5.10.0-30-amd64 =~ $BUILD_EXCLUSIVE_KERNEL && ! 6.11.2 =~ $BUILD_EXCLUSIVE_KERNEL ]] ||
	fail "dkms.conf takes kernels qblk was not made for"
cd "$tree"
eval "${MAKE[0]} -j$(nproc)" >"$tmp/log" 2>&1 || fail "dkms.conf: $(tail -n 30 "$tmp/log")"
[[ -e $tree/${BUILT_MODULE_NAME[0]}.ko ]] || fail "dkms.conf does not make the module"
eval "$CLEAN" >"$tmp/log" 2>&1 || fail "dkms.conf, clean: $(tail "$tmp/log")"
left=$(find "$tree" -name '*.o')
[[ -z $left ]] || fail "CLEAN leaves $left"
