#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tries to reach anything at all. Exits 1 if it does. usage: network.py [PORT of a host listener]"""
import socket
import sys

TARGETS = [("the internet", "1.1.1.1", 443), ("the internet, IPv6", "2606:4700:4700::1111", 443),
           ("cloud metadata", "169.254.169.254", 80), ("a private network", "10.0.0.1", 80)]
if len(sys.argv) > 1:
    TARGETS.append(("the host's loopback", "127.0.0.1", int(sys.argv[1])))

reached = False
for name, address, port in TARGETS:
    try:
        socket.create_connection((address, port), timeout=2).close()
        print(f"  REACHED  {name} ({address})")
        reached = True
    except OSError as e:
        print(f"  refused  {name} ({address}): {e.strerror or e}")
try:
    print("  RESOLVED ", socket.gethostbyname("example.org"))
    reached = True
except OSError as e:
    print(f"  refused  a name to resolve: {e.strerror or e}")
print("  interfaces:", " ".join(name for _, name in socket.if_nameindex()))
sys.exit(reached)
