// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L1: the contracts hold what they owe, and exactly that if nobody sent tokens without a deposit (cases 1, 18).
contract L1Solvency is Law {
    function invariant_L1_solvency() external view {
        checkEqual(
            stage.owedByEscrow() + stage.donated(),
            stage.payment().balanceOf(address(stage.escrow())),
            "L1: the escrow holds what it owes and what it was given"
        );
        checkEqual(
            stage.owedByStaking() + stage.stakeDonated(),
            stage.bond().balanceOf(address(stage.staking())),
            "L1: the staking holds what it owes and what it was given"
        );
        checkAtMost(
            stage.payment().balanceOf(address(stage.staking())),
            stage.feesOwedByStaking(),
            "L1: the staking holds the fees it owes"
        );
        check(!stage.payment().breached(), "L1: a call back got through, or saw books that were not covered");
        holds(Model.Law.Solvency);
    }
}
