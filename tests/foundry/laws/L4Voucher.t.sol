// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ChannelActs} from "../acts/ChannelActs.sol";
import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L4: a channel has paid min(highest total signed, deposited) at most, and what it has paid never falls (cases
/// 34, 42, 43).
contract L4Voucher is Law {
    function invariant_L4_voucher() external view {
        uint256 total = stage.lineCount();
        for (uint256 i; i < total; ++i) {
            ChannelActs.Line memory line = stage.lineAt(i);
            (uint128 deposited, uint128 claimed, uint64 closeAt) = stage.escrow().channelOf(line.id);
            // The model's figures only rise by what a voucher is good for: equal to them, claimed never fell.
            checkEqual(line.deposited, deposited, "L4: deposited");
            checkEqual(line.claimed, claimed, "L4: claimed");
            checkEqual(line.closeAt, closeAt, "L4: closeAt");
            checkAtMost(line.highest, claimed, "L4: claimed above the highest voucher");
            checkAtMost(deposited, claimed, "L4: claimed above the deposit");
        }
        holds(Model.Law.Voucher);
    }
}
