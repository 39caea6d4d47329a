# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced first by the attacks that would hurt a real machine. Inside a sandbox the user namespace maps
# a small range of ids; on a host it maps all of them.
read -r _ _ ids </proc/self/uid_map
if [ "$ids" = 4294967295 ]; then
	echo "this would hurt your machine: run it with brig" >&2
	exit 99
fi
