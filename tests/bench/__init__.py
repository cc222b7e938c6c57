"""Benches run as the system does: on the compiled hot path where there is one."""

from deploy.compiled import use

use()
