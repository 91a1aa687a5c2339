// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Handler} from "../acts/Handler.sol";
import {Model} from "../acts/Model.sol";
import {Check} from "../base/Check.sol";
import {vm} from "../base/Vm.sol";

/// @notice One law, checked after every act of a campaign. Foundry calls the acts of the handler in any order.
abstract contract Law is Check {
    Handler internal stage;

    function setUp() public {
        // From its artifact: a law is compiled without it, and at once.
        bytes memory code = vm.getCode("Handler.sol:Handler");
        address deployed;
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        check(deployed != address(0), "the stage is built");
        stage = Handler(deployed);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(stage);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev Ways out are no acts: only laws try them, and leave no trace.
    function excludeSelectors() external view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        excluded[0].addr = address(stage);
        excluded[0].selectors = new bytes4[](3);
        excluded[0].selectors[0] = stage.leaveWith.selector;
        excluded[0].selectors[1] = stage.everybodyLeaves.selector;
        excluded[0].selectors[2] = stage.roundTrip.selector;
    }

    function holds(Model.Law law) internal view {
        string memory what = stage.breach(law);
        check(bytes(what).length == 0, what);
    }
}
