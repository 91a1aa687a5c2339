// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L9: terms are frozen when a task begins: price, windows and shares stay as they were signed, and so do the
/// figures of the deployment (cases 19, 24).
contract L9Terms is Law {
    function invariant_L9_terms() external view {
        uint256 total = stage.taskCount();
        if (total != 0) {
            _check(stage.taskAt(total - 1));
            _check(stage.taskAt(block.number % total));
        }
        checkEqual(stage.figuresAtStart(), stage.figures(), "L9: fees, windows and neighbours of the deployment");
        check(stage.quotesStand(), "L9: a quote of the past changed");
        holds(Model.Law.Terms);
    }

    function _check(Model.Task memory task) private view {
        checkEqual(stage.market().digestOfTaskTerms(task.terms), task.id, "L9: the id is the terms");
        (, uint64 time) = stage.market().taskOf(task.id);
        if (task.state == Model.State.Proven) checkEqual(task.windowEndsAt, time, "L9: end of the window");
        if (task.state == Model.State.Open) checkEqual(task.cancelledAt, time, "L9: time of the cancel");
        if (task.state == Model.State.Disputed) checkEqual(task.disputedAt, time, "L9: time of the dispute");
        checkAtMost(task.terms.maxCharge, task.charge, "L9: charge");
    }
}
