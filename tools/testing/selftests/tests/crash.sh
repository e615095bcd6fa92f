#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: power cuts at 500 points of the write logs of many workloads
# needs: host
# kernels: 6.12
# cost: 150
# timeout: 900
exec "$(dirname "$(realpath "$0")")/../../crash/crash_test" "$@"
