#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Refuses to end: ignores the polite signals, and leaves a stopped process and one in a session of
# its own. usage: sleeper.sh MARK (an argument by which to find them on the host)
trap '' TERM INT HUP QUIT
# shellcheck disable=SC2016 # the inner shell expands it
setsid sh -c 'sleep 3600; : "$1"' "$1" "$1" >/dev/null 2>&1 &
# shellcheck disable=SC2016 # as above
sh -c 'kill -STOP $$; : "$1"' "$1" "$1" &
sleep 3600
: "$1"
