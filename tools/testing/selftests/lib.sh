# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Sourced by the tests written in shell; the working directory is the scratch
# file system.  A test fails by any failing command, or by fail.
set -eEuo pipefail

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
QBLK_SLOWNESS=${QBLK_SLOWNESS:-1}
QBLKCTL=${QBLK_CTL:-$(realpath "$here/../../..")/build/userspace/qblkctl}

fail()
{
	printf '  %s\n' "$*"
	exit 1
}

skip()
{
	printf '  skip (%s)\n' "$*"
	exit 4
}

trap 'printf "  line %s: %s: exit status %s\n" "$LINENO" "$BASH_COMMAND" "$?"' ERR

# Undone in reverse order at exit, whether the test passed or not.
undo=()
at_exit()
{
	undo=("$1" ${undo[@]+"${undo[@]}"})
}

run_undo()
{
	local status=$? step

	trap - ERR
	for step in ${undo[@]+"${undo[@]}"}; do
		eval "$step" >/dev/null 2>&1 || :
	done
	exit "$status"
}
trap run_undo EXIT

need()
{
	local program

	for program; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

qblkctl()
{
	"$QBLKCTL" "$@"
}

# Sets $dev: attach IMAGE [OPTION...]
attach()
{
	local image=$1

	shift
	dev=$("$QBLKCTL" attach "$@" "$image")
	[[ -b $dev ]] || fail "attach printed '$dev', which is no block device"
	at_exit "'$QBLKCTL' detach --force '$dev'"
}

detach()
{
	"$QBLKCTL" detach "$@"
	[[ ! -e /sys/block/${!#} && ! -e /sys/block/$(basename "${!#}") ]] ||
		fail "${!#} is still there after detach"
}

# expect_exit CODE COMMAND...; stderr is left in $said
expect_exit()
{
	local want=$1 status=0

	shift
	said=$("$@" 2>&1 >/dev/null) || status=$?
	((status == want)) || fail "$*: exit $status, expected $want: $said"
}

img_check()
{
	local out

	out=$(qemu-img check -f qcow2 "$1" 2>&1) || fail "qemu-img check $1: $out"
	grep -q 'No errors were found' <<<"$out" || fail "qemu-img check $1: $out"
}

# wait_for SECONDS COMMAND...
wait_for()
{
	local end=$((SECONDS + $1 * ${QBLK_SLOWNESS%.*}))

	shift
	until "$@"; do
		((SECONDS <= end)) || return 1
		sleep 0.1
	done
}

# A directory with files of many sizes, made of what every system has.
make_tree()
{
	mkdir -p "$1/sub/deeper"
	seq 1 20000 >"$1/numbers"
	head -c 3000000 /dev/urandom >"$1/random"
	truncate -s 5M "$1/sparse"
	printf 'x' >>"$1/sparse"
	cp -r /etc/udev /etc/security "$1/sub/" 2>/dev/null || :
	ln -s ../numbers "$1/sub/link"
	: >"$1/sub/deeper/empty"
}
