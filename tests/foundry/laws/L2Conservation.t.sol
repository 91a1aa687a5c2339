// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L2: what one loses others gain, to the wei: every book equals the one that the model keeps (case 7).
contract L2Conservation is Law {
    function invariant_L2_conservation() external view {
        stage.checkBooks();
        checkEqual(stage.paidIn(), stage.paidOut() + stage.owedByEscrow(), "L2: paid in = paid out + owed");
        checkEqual(stage.stakedIn(), stage.stakedOut() + stage.owedByStaking(), "L2: staked = withdrawn + there");
        uint256 feesThere = stage.payment().balanceOf(address(stage.staking()));
        checkEqual(stage.poolFees(), stage.feesOut() + feesThere, "L2: fees shared = fees paid out + there");
        // A fraction of a unit for each who ever held a share.
        checkAtMost(
            stage.feesOwedByStaking() + 2 * stage.positionCount() + stage.count(), feesThere, "L2: fees of nobody"
        );
        holds(Model.Law.Conservation);
    }
}
