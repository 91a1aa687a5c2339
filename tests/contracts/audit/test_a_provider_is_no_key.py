"""A provider with stake of its own cannot become another's operator key: it would speak for the
other at `registerGpus` and could no longer take its own GPUs off the list to unbond.
"""

from __future__ import annotations

from typing import Any

from tests.contracts.stage import NO_DIGEST, UNIT, Stage, digest_of, reverts_with


def test_a_staked_provider_cannot_be_bound(stage: Stage, other_provider: Any) -> None:
    stage.token.approve(stage.staking, UNIT, {"from": other_provider})
    stage.staking.stake(UNIT, {"from": other_provider})
    stage.staking.registerGpus(digest_of("gpus"), 1, {"from": other_provider})
    consent = stage.consent(stage.provider, other_provider)
    with reverts_with("KeyIsProvider", other_provider):
        stage.staking.bindOperatorKey(other_provider, consent, {"from": stage.provider})
    stage.staking.registerGpus(NO_DIGEST, 0, {"from": other_provider})
    stage.staking.requestUnbond(UNIT, {"from": other_provider})
    stage.staking.bindOperatorKey(other_provider, consent, {"from": stage.provider})
