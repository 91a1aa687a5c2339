// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ChannelActs} from "../acts/ChannelActs.sol";
import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L5: a session key spends no more than it was given: what it accepts stays below the ceiling of the task that
/// names it; and out of an
/// allowance it funds channels up to the cap, until it expires or is revoked (cases 40, 41).
contract L5SessionKey is Law {
    function invariant_L5_session_key() external view {
        uint256 total = stage.taskCount();
        if (total != 0) {
            Model.Task memory task = stage.taskAt(block.timestamp % total);
            checkAtMost(task.terms.maxCharge, task.charge, "L5: charge of a task");
        }
        total = stage.grantCount();
        for (uint256 i = total > 4 ? total - 4 : 0; i < total; ++i) {
            ChannelActs.Grant memory grant = stage.grantAt(i);
            (uint128 spent, bool revoked) = stage.escrow().allowanceOf(grant.allowance.payer, grant.id);
            checkEqual(grant.spent, spent, "L5: spent of an allowance");
            check(grant.revoked == revoked, "L5: revoked");
            checkAtMost(grant.allowance.cap, spent, "L5: cap of an allowance");
        }
        holds(Model.Law.SessionKey);
    }
}
