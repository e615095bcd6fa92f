#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: power cuts at hundreds of points of a write log
# needs: host
# cost: 100
# timeout: 600
exec "$(dirname "$(realpath "$0")")/../../crash/crash_test" "$@"
