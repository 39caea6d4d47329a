# SPDX-License-Identifier: Apache-2.0
"""Imported first by the attacks that would hurt a real machine; see guard.sh."""
import sys

with open("/proc/self/uid_map") as _map:
    if _map.readline().split()[2] == "4294967295":
        sys.exit("this would hurt your machine: run it with brig")
