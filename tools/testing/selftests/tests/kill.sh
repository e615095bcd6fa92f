#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# about: machines killed under load, and the images they leave
# needs: host
# kernels: 6.12
# cost: 50
# timeout: 300
exec "$(dirname "$(realpath "$0")")/../../crash/kill_test" "$@"
