#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
exec yes "all work and no play makes Jack a dull boy"
