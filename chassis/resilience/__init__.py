"""Resilience: one file a policy, all of one shape, and one coroutine that fuses them.

Each file holds a frozen typed config, a pure core (arithmetic or a state machine) and a gate whose
`call(fn, *args)` awaits the function under the policy. `policy(...)` composes them.
"""

from chassis.resilience.breaker import Breaker, BreakerConfig, BreakerOpen
from chassis.resilience.budget import Budget, BudgetConfig
from chassis.resilience.bulkhead import Bulkhead, BulkheadConfig
from chassis.resilience.fallback import Answer, Fallback, FallbackConfig, Option
from chassis.resilience.policy import Policy, PolicySnapshot, policy
from chassis.resilience.refusals import BulkheadFull, Reason
from chassis.resilience.retry import Retry, RetryConfig
from chassis.resilience.timeout import Timeout, TimeoutConfig, TimerWheel
from chassis.resilience.verdict import Verdict, verdict_of

__all__ = [
    "Answer",
    "Breaker",
    "BreakerConfig",
    "BreakerOpen",
    "Budget",
    "BudgetConfig",
    "Bulkhead",
    "BulkheadConfig",
    "BulkheadFull",
    "Fallback",
    "FallbackConfig",
    "Option",
    "Policy",
    "PolicySnapshot",
    "Reason",
    "Retry",
    "RetryConfig",
    "Timeout",
    "TimeoutConfig",
    "TimerWheel",
    "Verdict",
    "policy",
    "verdict_of",
]
