// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L8: the price of a share moves by a slash only, and in and out again never profits (cases 53, 63, 66).
contract L8SharePrice is Law {
    function invariant_L8_share_price() external {
        for (uint256 i = 4; i < 7; ++i) {
            check(stage.priceStands(stage.people(i)), "L8: a pool moved without an act on it");
        }
        uint128 amount = uint128(10e18 + uint256(keccak256(abi.encode(block.number))) % 1000e18);
        address provider = stage.people(4 + block.number % 3);
        checkAtMost(amount, stage.roundTrip(provider, amount), "L8: what a round trip brings back");
        holds(Model.Law.SharePrice);
    }
}
