// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L7: the stake that stood behind a proof is within reach until the last word on it can be spoken, bonded or
/// unbonding (cases 55, 58).
contract L7Stake is Law {
    function invariant_L7_stake() external view {
        uint256 total = stage.taskCount();
        uint256 courtSeconds = stage.market().courtSeconds();
        for (uint256 i = total > 6 ? total - 6 : 0; i < total; ++i) {
            Model.Task memory task = stage.taskAt(i);
            if (task.provenAt == 0 || block.timestamp > task.windowEndsAt + courtSeconds) continue;
            checkAtMost(
                stage.withinReach(task.provider) + stage.slashedSince(task.provider, task.provenAt),
                task.backing,
                "L7: stake behind a proof"
            );
        }
        holds(Model.Law.Stake);
    }
}
