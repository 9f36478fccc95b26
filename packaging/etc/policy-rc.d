#!/bin/sh
# Seen by ferryman-install@.service alone, as /usr/sbin/policy-rc.d: what a package's scripts would start, restart or stop, they do not.
exit 101
