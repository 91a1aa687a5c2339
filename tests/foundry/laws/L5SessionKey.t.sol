// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L5: a session key spends no more than it was given: what it accepts stays below the ceiling of the task that
/// names it.
contract L5SessionKey is Law {
    function invariant_L5_session_key() external view {
        uint256 total = stage.taskCount();
        if (total != 0) {
            Model.Task memory task = stage.taskAt(block.timestamp % total);
            checkAtMost(task.terms.maxCharge, task.charge, "L5: charge of a task");
        }
        holds(Model.Law.SessionKey);
    }
}
