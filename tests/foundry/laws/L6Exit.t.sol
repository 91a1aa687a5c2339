// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Model} from "../acts/Model.sol";
import {Law} from "./Law.sol";

/// @notice L6: whoever has nothing locked takes everything out, whatever strangers did; and at the end everybody does
/// (cases 5, 8, 9, 16, 60).
contract L6Exit is Law {
    /// @dev Far above what a withdrawal takes, far below what any list of strangers would add.
    uint256 private constant EXIT_GAS = 150_000;

    function invariant_L6_exit() external {
        stage.leaveWith(block.number, EXIT_GAS);
        holds(Model.Law.Exit);
    }

    /// @dev Once a campaign's run is over: everything ends, everybody leaves, nothing stays behind.
    function afterInvariant() external {
        stage.everybodyLeaves();
        holds(Model.Law.Exit);
    }
}
