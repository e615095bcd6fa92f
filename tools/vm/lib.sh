# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Shared by the tools in this folder: the cache, and work done once in it.

# shellcheck disable=SC2034  # read by the scripts that source this file
QBLK_CACHE=${QBLK_CACHE:-${XDG_CACHE_HOME:-/var/cache}/qblk}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${DIE_STATUS:-1}"
}

# Only one process fills a cache entry; the others wait for it.  The lock is
# an open descriptor, so it disappears with its holder.
cache_lock()
{
	mkdir -p "$QBLK_CACHE"
	exec {CACHE_LOCK_FD}>"$QBLK_CACHE/.lock-$1"
	flock "$CACHE_LOCK_FD"
}

cache_unlock()
{
	exec {CACHE_LOCK_FD}>&-
}
