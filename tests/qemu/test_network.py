"""Addresses: static, DHCP, link-local."""

import re

from harness import check, check_equal, test
from machine import BOOT_S, Machine
