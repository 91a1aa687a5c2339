// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L3: a unit of work is paid once, by whichever route; and a task goes only where the state machine lets it
/// (cases 27, 28, 31).
contract L3OnePayment is Law {
    function invariant_L3_one_payment() external view {
        uint256 total = stage.taskCount();
        // The last ones, and one of the others each time: an old task cannot change unseen for long.
        for (uint256 i = total > 4 ? total - 4 : 0; i < total; ++i) {
            _check(stage.taskAt(i));
        }
        if (total > 4) _check(stage.taskAt(block.number % total));
        holds(Model.Law.OnePayment);
    }

    function _check(Model.Task memory task) private view {
        checkAtMost(1, task.payments, "L3: payments of one task");
        (ITaskMarket.Status status,) = stage.market().taskOf(task.id);
        ITaskMarket.Status expected = task.state == Model.State.Open
            ? ITaskMarket.Status.Open
            : task.state == Model.State.Proven
                ? ITaskMarket.Status.Proven
                : task.state == Model.State.Disputed ? ITaskMarket.Status.Disputed : ITaskMarket.Status.None;
        checkEqual(uint256(expected), uint256(status), "L3: status");
        if (task.state != Model.State.Order) {
            check(stage.market().nonceUsed(task.terms.consumer, task.terms.nonce), "L3: the nonce is used up");
        }
    }
}
